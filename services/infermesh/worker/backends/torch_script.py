"""TorchScript files (`.pt`, `.ts`) as plain functions of tensors. Used by the torch backend; imports torch.

`torch.jit.load` reads them with an unpickler of its own that knows TorchScript's types only; what their code may do
beyond computing is checked before, by `torchscript_archive.py`.
"""

import tempfile
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch

from infermesh.errors import LoadFailed, ModelFailed
from infermesh.v1 import model_pb2
from infermesh.worker.backends.base import match_names
from infermesh.worker.backends.torch_program import Call, Tensors, place
from infermesh.worker.backends.torchscript_archive import copy_safely


def load(path: Path, device: str) -> Any:
    """Returns the frozen module in `path` on a device. Raises LoadFailed."""
    try:
        with tempfile.TemporaryDirectory(prefix="infermesh-") as folder, warnings.catch_warnings():
            copy = Path(folder, "model.pt")
            copy_safely(path, copy)
            warnings.simplefilter("ignore")  # torch calls TorchScript deprecated; it still runs everywhere
            module = torch.jit.load(str(copy), map_location=device).eval()  # type: ignore[no-untyped-call]
            return _frozen(module)
    except (RuntimeError, ValueError) as error:
        text = str(error).strip().partition("\n")[0][:300]
        raise LoadFailed(f"{path.name}: not a TorchScript file (made by torch.jit.save): {text}") from error


def callable_of(module: Any, version: model_pb2.ModelVersion) -> Call:
    """Returns the module as a function. Raises LoadFailed if its inputs are not the signature's."""
    in_order = _input_order(module, version)
    names = [spec.name for spec in version.signature.outputs]

    def call(tensors: Tensors) -> Tensors:
        return _outputs(module(*[tensors[at] for at in in_order]), names)

    return call


def _frozen(module: Any) -> Any:
    try:
        return torch.jit.freeze(module)
    except RuntimeError:
        return module  # e.g. it changes its own attributes; then it runs as it is


def _input_order(module: Any, version: model_pb2.ModelVersion) -> list[int]:
    """Returns for each argument of the module its place in the signature; arguments with defaults may be missing."""
    wanted = [spec.name for spec in version.signature.inputs]
    arguments = module.forward.schema.arguments[1:]
    names = [argument.name for argument in arguments]
    if len(names) == len(wanted):
        return place(names, wanted, "input")
    given = names[: len(wanted)]
    if any(not argument.has_default_value() for argument in arguments[len(wanted) :]) or set(given) != set(wanted):
        match_names("input", wanted, names)
    return [wanted.index(name) for name in given]


def _outputs(answer: Any, names: Sequence[str]) -> list[torch.Tensor]:
    """Returns the tensors of an answer in the order of `names`. Raises ModelFailed."""
    if isinstance(answer, torch.Tensor):
        answer = (answer,)
    if isinstance(answer, Mapping) and all(name in answer for name in names):
        answer = [answer[name] for name in names]
    if not isinstance(answer, list | tuple) or len(answer) != len(names):
        got = f"{len(answer)} in a {type(answer).__name__}" if hasattr(answer, "__len__") else type(answer).__name__
        raise ModelFailed(f"outputs: the signature names {', '.join(names)}; the module gave {got}")
    return list(answer)
