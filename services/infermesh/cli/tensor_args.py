"""Tensors on the command line: specs as text, samples and inputs from files. Used by `push` and `infer`."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import typer

if TYPE_CHECKING:
    from infermesh.tensors import Array
    from infermesh.v1 import model_pb2

_SPEC: Final = re.compile(r"(?P<name>.+?):(?P<datatype>[A-Z0-9]+)\[(?P<shape>[-0-9, ]*)\]")


def parse_specs(inputs: Sequence[str], outputs: Sequence[str]) -> "model_pb2.Signature | None":
    """Returns the signature of `name:FP32[-1,4]` arguments; None without any. Raises a usage error."""
    if not inputs and not outputs:
        return None
    from infermesh.client import signature

    if not inputs or not outputs:
        raise typer.BadParameter("--input and --output-tensor: give both, or neither to infer the signature")
    return signature(dict(map(_spec, inputs)), dict(map(_spec, outputs)))


def _spec(text: str) -> tuple[str, tuple[str, list[int]]]:
    found = _SPEC.fullmatch(text)
    try:
        if found is None:
            raise ValueError(text)
        shape = [int(size) for size in found["shape"].split(",") if size.strip()]
    except ValueError:
        raise typer.BadParameter(f"tensor: expected name:FP32[-1,4], got {text!r}") from None
    return found["name"], (found["datatype"], shape)


def read_sample(path: Path, known: "model_pb2.Signature | None") -> "tuple[Mapping[str, Array], Mapping[str, Array]]":
    """Returns inputs and expected outputs of an .npz file.

    Names begin with `inputs.` or `outputs.`, or are those of the signature, if it is known. Raises a usage error.
    """
    arrays = _load(path)
    if not isinstance(arrays, Mapping):
        raise typer.BadParameter(f"{path}: expected an .npz file with an array for each tensor")
    sides: tuple[dict[str, Array], dict[str, Array]] = ({}, {})
    places = {spec.name: 0 for spec in known.inputs} | {spec.name: 1 for spec in known.outputs} if known else {}
    for name, array in arrays.items():
        prefix, dot, bare = name.partition(".")
        if dot and prefix in ("inputs", "outputs"):
            sides[prefix == "outputs"][bare] = array
        elif name in places:
            sides[places[name]][name] = array
        else:
            raise typer.BadParameter(f"{path}: can't tell what '{name}' is: name it inputs.{name} or outputs.{name}")
    return sides


def _load(path: Path) -> Any:
    import numpy as np

    try:
        loaded = np.load(path, allow_pickle=False)
        return dict(loaded) if hasattr(loaded, "files") else loaded
    except (OSError, ValueError, EOFError) as error:
        raise typer.BadParameter(f"{path}: not a numpy file: {error}") from error


def read_inputs(items: Sequence[str], specs: Sequence[Any]) -> "dict[str, Array]":
    """Returns the inputs of arguments: `name=VALUE`, where VALUE is JSON, `@file.npy` or `@file.json`; or `@file.npz`
    or `@file.json` with all of them; the name may be left out for a model with one input. Raises a usage error."""
    found: dict[str, Any] = {}
    for item in items:
        name, separator, value = item.partition("=")
        if not separator or name.startswith(("@", "{", "[")):
            name, value = "", item
        content = _value(value)
        if name:
            found[name] = content
        elif isinstance(content, Mapping):
            found.update(content)
        elif len(specs) == 1:
            found[specs[0].name] = content
        else:
            raise typer.BadParameter(f"inputs: expected name=VALUE for one of {', '.join(s.name for s in specs)}")
    return {name: _as_array(name, value, specs) for name, value in found.items()}


def _value(text: str) -> Any:
    if text.startswith("@"):
        path = Path(text[1:])
        if path.suffix in (".npy", ".npz"):
            return _load(path)
        try:
            text = path.read_text()
        except (OSError, UnicodeDecodeError) as error:
            raise typer.BadParameter(f"{path}: can't read it: {error}") from error
    try:
        return json.loads(text)
    except json.JSONDecodeError as error:
        raise typer.BadParameter(f"inputs: expected JSON or @FILE, got {text[:80]!r} ({error})") from error


def _as_array(name: str, value: Any, specs: Sequence[Any]) -> "Array":
    import numpy as np

    from infermesh import tensors

    datatype = next((spec.datatype for spec in specs if spec.name == name), None)
    if isinstance(value, np.ndarray):
        return value
    try:
        return np.asarray(value, dtype=tensors.numpy_dtype(datatype) if datatype else None)
    except (ValueError, TypeError, OverflowError) as error:
        raise typer.BadParameter(f"input {name}: can't be made a {datatype} tensor: {error}") from error


def random_inputs(specs: Sequence[Any], batch: int, seed: int) -> "dict[str, Array]":
    """Returns random inputs of a signature: sizes of -1 become `batch`; numbers lie in 0 to 1, or 0 to 9."""
    import numpy as np

    from infermesh import tensors

    rng = np.random.default_rng(seed)

    def make(spec: Any) -> "Array":
        shape = [batch if size < 0 else size for size in spec.shape]
        dtype = tensors.numpy_dtype(spec.datatype)
        if spec.datatype == "BYTES":
            return np.array([str(n) for n in rng.integers(0, 10, shape).flat], dtype=object).reshape(shape)
        if spec.datatype.startswith(("FP", "BF")):
            return rng.random(shape).astype(dtype)
        return rng.integers(0, 2 if spec.datatype == "BOOL" else 10, shape).astype(dtype)

    return {spec.name: make(spec) for spec in specs}
