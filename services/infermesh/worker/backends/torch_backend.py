"""Runs programs of `torch.export` (`.pt2`) and TorchScript (`.pt`, `.ts`) on any device of torch."""

from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from typing import Final

import torch

from infermesh.errors import LoadFailed, ModelFailed
from infermesh.tensors import Array
from infermesh.worker.backends import torch_program, torch_script
from infermesh.worker.backends.base import LoadContext, RunnerBroken, entry_file
from infermesh.worker.backends.torch_program import Call
from infermesh.worker.backends.torch_tensors import DATATYPES, Transfer, transfer_for

_SUFFIXES: Final = (".pt2", ".pt", ".ts")


class TorchBackend:
    """Runs one program, in inference mode, on one stream."""

    def __init__(self) -> None:
        self._call: Call | None = None
        self._transfer: Transfer | None = None
        self._inputs: list[tuple[str, str]] = []
        self._outputs: list[str] = []
        self._stack = ExitStack()

    def load(self, context: LoadContext) -> None:
        """See `Backend.load`."""
        path = entry_file(context, _SUFFIXES)
        signature = context.version.signature
        _check_datatypes(context)
        torch.set_num_threads(context.threads)
        self._inputs = [(spec.name, spec.datatype) for spec in signature.inputs]
        self._outputs = [spec.name for spec in signature.outputs]
        self._transfer = transfer_for(context.device, self._stack)
        if path.suffix == ".pt2":
            program = torch_program.load(path, context.device)
            with torch.inference_mode():
                probe = [
                    self._transfer.to_device(at, context.probe[name].copy(), datatype)
                    for at, (name, datatype) in enumerate(self._inputs)
                ]
                self._call = torch_program.callable_of(program, context.version, probe)
        else:
            self._call = torch_script.callable_of(torch_script.load(path, context.device), context.version)
        # entered once: entering it at each call would cost as much as a small layer
        self._stack.enter_context(torch.inference_mode())

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """See `Backend.infer`."""
        assert self._call is not None
        assert self._transfer is not None
        to_device = self._transfer.to_device
        try:
            tensors = [to_device(at, inputs[name], datatype) for at, (name, datatype) in enumerate(self._inputs)]
            answers = dict(zip(self._outputs, self._call(tensors), strict=True))
            return dict(zip(outputs, self._transfer.to_host([answers[name] for name in outputs]), strict=True))
        except torch.OutOfMemoryError as error:
            torch.cuda.empty_cache()
            raise ModelFailed("the model failed: the device has not enough memory for a batch of this size") from error
        except RuntimeError as error:
            if _is_fatal(error):
                raise RunnerBroken(f"the device failed: {str(error).partition(chr(10))[0][:300]}") from error
            raise

    def use_threads(self, threads: int) -> None:
        """See `Backend.use_threads`."""
        torch.set_num_threads(threads)

    def memory_bytes(self) -> int | None:
        """See `Backend.memory_bytes`."""
        return self._transfer.memory_bytes() if self._transfer is not None else None

    def close(self) -> None:
        """See `Backend.close`."""
        self._stack.close()
        self._call = self._transfer = None


def _check_datatypes(context: LoadContext) -> None:
    known = set(DATATYPES.values())
    signature = context.version.signature
    for spec in (*signature.inputs, *signature.outputs):
        if spec.datatype not in known:
            raise LoadFailed(f"tensor {spec.name!r}: torch has no {spec.datatype}")


def _is_fatal(error: RuntimeError) -> bool:
    """Tells whether the device context is lost: after such an error every later call fails, too."""
    lost = getattr(torch, "AcceleratorError", None)
    return (lost is not None and isinstance(error, lost)) or "CUDA error" in str(error)
