"""Backends of the worker: the table of what can run a model. A backend is one file beside this and one line here."""

from importlib.util import find_spec
from typing import Final

from infermesh.mesh.extensions import Table
from infermesh.worker.backends.base import Backend

_ENTRIES: Final = {
    "onnx": "infermesh.worker.backends.onnx_backend:OnnxBackend",
    "python": "infermesh.worker.backends.python_backend:PythonBackend",
    "torch": "infermesh.worker.backends.torch_backend:TorchBackend",
}
_NEEDS: Final = {"onnx": "onnxruntime", "torch": "torch"}


def table() -> Table[type[Backend]]:
    """Returns the table of backends, third parties' included (entry points in the group `infermesh.backends`)."""
    return Table("backend", _ENTRIES, "infermesh.backends")


def available() -> tuple[str, ...]:
    """Returns the names of the backends whose library is installed, without importing any; for heartbeats."""
    return tuple(name for name in table().names() if name not in _NEEDS or find_spec(_NEEDS[name]) is not None)
