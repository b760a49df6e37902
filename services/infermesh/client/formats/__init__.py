"""Reads what a model file says about its tensors, without the framework that wrote it. One module for each format.

Used by `package`. A file that says nothing, or is not understood, gives an empty `Description`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Final, cast

from infermesh.v1 import model_pb2


@dataclass(frozen=True)
class Description:
    """What a file says. `max_batch_size` is its own limit of the first dimension; None if it names none."""

    signature: model_pb2.Signature | None = None
    max_batch_size: int | None = None


_READERS: Final[dict[str, str]] = {
    ".onnx": "infermesh.client.formats.onnx:read",
    ".pt2": "infermesh.client.formats.pt2:read",
}


def describe(file: Path) -> Description:
    """Returns what `file` says about its tensors; blocks. Empty for formats that say nothing. Raises InvalidInput if
    the file is broken."""
    entry = _READERS.get(file.suffix)
    if entry is None:
        return Description()
    module, _, attribute = entry.partition(":")
    read = cast(Callable[[Path], Description], getattr(import_module(module), attribute))
    return read(file)
