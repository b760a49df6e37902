"""Programs of `torch.export` (`.pt2`) as plain functions of tensors. Used by the torch backend; imports torch."""

import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final

import torch
from torch.export.graph_signature import InputKind, OutputKind, TensorArgument

from infermesh.errors import LoadFailed
from infermesh.v1 import model_pb2
from infermesh.worker.backends.base import check_tensor, match_names
from infermesh.worker.backends.pt2_archive import copy_safely
from infermesh.worker.backends.torch_tensors import DATATYPES

Tensors = Sequence[torch.Tensor]
Call = Callable[[Tensors], Tensors]
"""Takes the inputs and gives the outputs, both in the order of the signature."""

_LIFTED: Final = (InputKind.PARAMETER, InputKind.BUFFER, InputKind.CONSTANT_TENSOR)
_LARGEST_LOWER_BOUND: Final = 2  # torch.export writes 2 where it only means "not specialised to 0 or 1"


def load(path: Path, device: str) -> Any:
    """Returns the ExportedProgram in `path` on a device, without unpickling anything. Raises LoadFailed."""
    with tempfile.TemporaryDirectory(prefix="infermesh-") as folder:
        copy = Path(folder, "model.pt2")
        copy_safely(path, copy)
        try:
            program = torch.export.load(copy)
        except Exception as error:  # torch raises whatever its deserialiser stumbled on
            text = str(error).strip().partition("\n")[0][:300]
            raise LoadFailed(f"{path.name}: torch can't load it: {type(error).__name__}: {text}") from error
    if device == "cpu":
        return program
    from torch.export.passes import move_to_device_pass

    return move_to_device_pass(program, device)


def callable_of(program: Any, version: model_pb2.ModelVersion, probe: Tensors | None) -> Call:
    """Returns the program as a function, after checking it against the signature. Raises LoadFailed.

    `ExportedProgram.module()` checks guards and takes structures apart in Python at each call, which costs more than a
    small model does. Our requests have passed the signature, so the graph can be called directly with its parameters;
    this is done where nothing but the checked facts guards it, and where it gives the same for `probe` (in the
    signature's order).
    """
    in_order = _input_order(program, version)
    out_order = _output_order(program, version)
    _check_inputs(program, version, in_order)
    checked = _through_module(program, in_order, out_order)
    if probe is None or not _is_plain(program, version):
        return checked
    direct = _direct(program, in_order, out_order)
    return direct if _agree(direct, checked, probe) else checked


def _input_order(program: Any, version: model_pb2.ModelVersion) -> list[int]:
    """Returns for each input of the program its place in the signature."""
    names = [str(name) for name in program.graph_signature.user_inputs]
    return place(names, [spec.name for spec in version.signature.inputs], "input")


def _output_order(program: Any, version: model_pb2.ModelVersion) -> list[int]:
    """Returns for each output of the signature its place in the program."""
    wanted = [spec.name for spec in version.signature.outputs]
    spec = program.call_spec.out_spec
    count = len(program.graph_signature.user_outputs)
    keyed = spec is not None and spec.type is dict and all(isinstance(key, str) for key in spec.context)
    names = list(spec.context) if keyed and len(spec.context) == count else [f"output {at}" for at in range(count)]
    return place(wanted, names, "output")


def place(names: Sequence[str], among: Sequence[str], kind: str) -> list[int]:
    """Returns the place of each name `among` others; by order where the two sides share no name. Raises LoadFailed."""
    if len(names) == len(among) and not set(names) & set(among):
        return list(range(len(names)))
    match_names(kind, among if kind == "input" else names, names if kind == "input" else among)
    return [list(among).index(name) for name in names]


def _values(program: Any) -> dict[str, Any]:
    return {node.name: node.meta.get("val") for node in program.graph.nodes}


def _check_inputs(program: Any, version: model_pb2.ModelVersion, in_order: Sequence[int]) -> None:
    """Compares datatypes, shapes and the range of the batch dimension with the signature."""
    values = _values(program)
    for name, at in zip(program.graph_signature.user_inputs, in_order, strict=True):
        spec, value = version.signature.inputs[at], values.get(name)
        if not isinstance(value, torch.Tensor):
            raise LoadFailed(f"input {spec.name!r}: the program takes no tensor there")
        dims = [size if isinstance(size, int) else None for size in value.shape]
        check_tensor("input", spec, DATATYPES.get(value.dtype, str(value.dtype)), dims, version.max_batch_size)
        if version.max_batch_size > 1:
            _check_rows(spec.name, _bounds(program, value.shape[0]), version.max_batch_size)


def _check_rows(name: str, bounds: tuple[float, float], max_batch_size: int) -> None:
    lower, upper = bounds
    if lower > _LARGEST_LOWER_BOUND or upper < max_batch_size:
        raise LoadFailed(
            f"input {name!r}: the program takes {lower:g} to {upper:g} rows, max_batch_size is {max_batch_size}: "
            "export it with torch.export.Dim('batch') without such bounds, or push it with another max_batch_size"
        )


def _bounds(program: Any, size: Any) -> tuple[float, float]:
    """Returns the smallest and largest value that the program allows for a symbolic size."""
    found = program.range_constraints.get(size.node.expr)
    if found is None:
        return 0, float("inf")
    return _number(found.lower), _number(found.upper)


def _number(bound: Any) -> float:
    try:
        return float(bound)
    except (TypeError, OverflowError):
        return float("inf")  # int_oo


def _is_plain(program: Any, version: model_pb2.ModelVersion) -> bool:
    """Tells whether the graph may be called without the guards of `module()`."""
    signature = program.graph_signature
    plain_inputs = all(
        isinstance(spec.arg, TensorArgument) and spec.kind in (*_LIFTED, InputKind.USER_INPUT)
        for spec in signature.input_specs
    )
    plain_outputs = all(spec.kind is OutputKind.USER_OUTPUT for spec in signature.output_specs)
    return plain_inputs and plain_outputs and _is_free(program, version)


def _is_free(program: Any, version: model_pb2.ModelVersion) -> bool:
    """Tells whether no open size but the batch is bounded, derived from another, or bound to be equal to another."""
    values = _values(program)
    batch: set[str] = set()
    others: list[str] = []
    for name in program.graph_signature.user_inputs:
        for at, size in enumerate(values[name].shape):
            if isinstance(size, int):
                continue
            if not size.node.expr.is_Symbol:
                return False
            if at == 0 and version.max_batch_size > 0:
                batch.add(str(size))
            elif _bounds(program, size)[0] > _LARGEST_LOWER_BOUND or _bounds(program, size)[1] != float("inf"):
                return False
            else:
                others.append(str(size))
    return len(set(others)) == len(others) and not batch & set(others)


def _through_module(program: Any, in_order: Sequence[int], out_order: Sequence[int]) -> Call:
    module = program.module()
    spec = program.call_spec.in_spec
    tree = torch.utils._pytree

    def call(tensors: Tensors) -> Tensors:
        args, kwargs = tree.tree_unflatten([tensors[at] for at in in_order], spec)
        flat = tree.tree_leaves(module(*args, **kwargs))
        return [flat[at] for at in out_order]

    return call


def _direct(program: Any, in_order: Sequence[int], out_order: Sequence[int]) -> Call:
    template: list[torch.Tensor | None] = []
    open_places: list[int] = []
    for spec in program.graph_signature.input_specs:
        if spec.kind is InputKind.USER_INPUT:
            open_places.append(len(template))
            template.append(None)
        else:
            owner = program.state_dict if spec.target in program.state_dict else program.constants
            template.append(owner[spec.target].detach())
    forward = program.graph_module.forward
    filling = list(zip(open_places, in_order, strict=True))

    def call(tensors: Tensors) -> Tensors:
        args = template.copy()
        for to, at in filling:
            args[to] = tensors[at]
        flat = forward(*args)
        return [flat[at] for at in out_order]

    return call


def _agree(direct: Call, checked: Call, probe: Tensors) -> bool:
    try:
        ours, theirs = direct(probe), checked(probe)
    except Exception:  # the reason shows when the checked form is used
        return False
    return all(
        one.shape == other.shape and one.dtype == other.dtype and torch.allclose(one, other, equal_nan=True)
        for one, other in zip(ours, theirs, strict=True)
    )
