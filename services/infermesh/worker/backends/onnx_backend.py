"""Runs ONNX models with onnxruntime, on the CPU or a CUDA device. Custom operator libraries are never loaded."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
import onnxruntime as ort

from infermesh.errors import InvalidInput, LoadFailed
from infermesh.tensors import Array
from infermesh.v1 import model_pb2
from infermesh.worker.backends.base import LoadContext, check_tensor, entry_file, match_names

_DATATYPES: Final = {
    "tensor(bool)": "BOOL",
    "tensor(uint8)": "UINT8",
    "tensor(uint16)": "UINT16",
    "tensor(uint32)": "UINT32",
    "tensor(uint64)": "UINT64",
    "tensor(int8)": "INT8",
    "tensor(int16)": "INT16",
    "tensor(int32)": "INT32",
    "tensor(int64)": "INT64",
    "tensor(float16)": "FP16",
    "tensor(float)": "FP32",
    "tensor(double)": "FP64",
    "tensor(string)": "BYTES",
}
_PROVIDERS: Final = {"cpu": "CPUExecutionProvider", "cuda": "CUDAExecutionProvider"}


class OnnxBackend:
    """Runs the `.onnx` file of a version."""

    def __init__(self) -> None:
        self._session: Any = None
        self._path = Path()
        self._device = "cpu"
        self._threads = 1
        self._texts: tuple[str, ...] = ()  # inputs that onnxruntime wants as str

    def load(self, context: LoadContext) -> None:
        """See `Backend.load`."""
        self._path = entry_file(context, (".onnx",))
        self._device, self._threads = context.device, context.threads
        self._session = self._open()
        signature = context.version.signature
        self._texts = tuple(spec.name for spec in signature.inputs if spec.datatype == "BYTES")
        _check(signature, self._session, context.version.max_batch_size)

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """See `Backend.infer`."""
        if self._texts:
            inputs = {name: _as_text(name, array) if name in self._texts else array for name, array in inputs.items()}
        return dict(zip(outputs, self._session.run(outputs, inputs), strict=True))

    def use_threads(self, threads: int) -> None:
        """See `Backend.use_threads`; the session is built again, because it keeps its threads for life."""
        if threads != self._threads:
            self._threads = threads
            self._session = self._open()

    def memory_bytes(self) -> int | None:
        """Returns None: onnxruntime does not tell what it took on a device."""
        return None

    def close(self) -> None:
        """See `Backend.close`."""
        self._session = None

    def _open(self) -> Any:
        options = ort.SessionOptions()
        options.intra_op_num_threads = self._threads
        options.inter_op_num_threads = 1
        options.log_severity_level = 3
        # idle threads that spin would take the cores of the other runners
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        try:
            session = ort.InferenceSession(str(self._path), options, providers=[_provider(self._device)])
        except Exception as error:  # onnxruntime's own exceptions have no common base
            raise LoadFailed(f"{self._path.name}: onnxruntime can't load it: {_first_line(error)}") from error
        wanted = _PROVIDERS[self._device.partition(":")[0]]
        if wanted not in session.get_providers():
            raise LoadFailed(f"device {self._device!r}: onnxruntime could not start its {wanted}")
        return session


def _provider(device: str) -> tuple[str, dict[str, Any]]:
    kind, _, index = device.partition(":")
    wanted = _PROVIDERS.get(kind)
    if wanted is None or wanted not in ort.get_available_providers():
        have = ", ".join(ort.get_available_providers())
        raise LoadFailed(f"device {device!r}: this onnxruntime has only {have}")
    return wanted, {"device_id": int(index or 0)} if kind == "cuda" else {}


def _check(signature: model_pb2.Signature, session: Any, max_batch_size: int) -> None:
    for kind, specs, offered in (
        ("input", signature.inputs, session.get_inputs()),
        ("output", signature.outputs, session.get_outputs()),
    ):
        by_name = {node.name: node for node in offered}
        match_names(kind, [spec.name for spec in specs], list(by_name))
        for spec in specs:
            node = by_name[spec.name]
            dims = [dim if isinstance(dim, int) else None for dim in node.shape]
            check_tensor(kind, spec, _DATATYPES.get(node.type, node.type), dims, max_batch_size)


def _as_text(name: str, array: Array) -> Array:
    texts = np.empty(array.shape, dtype=object)
    try:
        texts.reshape(-1)[:] = [item.decode() for item in array.reshape(-1)]
    except UnicodeDecodeError as error:
        raise InvalidInput(f"tensor '{name}': expected UTF-8 text, got {error.object[:20]!r}") from error
    return texts


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:300]
