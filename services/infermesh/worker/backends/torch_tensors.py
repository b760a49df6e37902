"""Ways between numpy on the host and torch on a device. Used by the torch backend; imports torch."""

from collections.abc import Sequence
from contextlib import ExitStack
from typing import Any, Final, Protocol

import numpy as np
import torch

from infermesh.errors import LoadFailed
from infermesh.tensors import Array

DATATYPES: Final[dict[torch.dtype, str]] = {
    torch.bool: "BOOL",
    torch.uint8: "UINT8",
    torch.uint16: "UINT16",
    torch.uint32: "UINT32",
    torch.uint64: "UINT64",
    torch.int8: "INT8",
    torch.int16: "INT16",
    torch.int32: "INT32",
    torch.int64: "INT64",
    torch.float16: "FP16",
    torch.bfloat16: "BF16",
    torch.float32: "FP32",
    torch.float64: "FP64",
}
"""The datatype of each dtype of torch; others have no counterpart in the protocol."""


class Transfer(Protocol):
    """Moves tensors of one execution; stateful, for one thread."""

    def to_device(self, at: int, array: Array, datatype: str) -> torch.Tensor:
        """Returns input number `at` on the device; it may still be on its way there."""

    def to_host(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        """Returns outputs as arrays, complete."""

    def memory_bytes(self) -> int | None:
        """Returns the memory taken on the device since the transfer was made; None on the host."""


def transfer_for(device: str, stack: ExitStack) -> Transfer:
    """Returns the transfer for a device; what has to stay entered (a stream) goes on `stack`. Raises LoadFailed."""
    kind = device.partition(":")[0]
    if kind == "cpu":
        return HostTransfer()
    if kind == "cuda":
        if not torch.cuda.is_available():
            raise LoadFailed(f"device {device!r}: this torch sees no CUDA device")
        return CudaTransfer(torch.device(device), stack)
    if kind in ("mps", "xpu"):
        if not getattr(torch, kind).is_available():
            raise LoadFailed(f"device {device!r}: this torch sees no such device")
        return PlainTransfer(torch.device(kind), getattr(torch, kind))
    raise LoadFailed(f"device {device!r}: expected cpu, cuda:N, mps or xpu")


def tensor_of(array: Array, datatype: str) -> torch.Tensor:
    """Returns a tensor over the memory of an array."""
    tensor = torch.from_numpy(array)
    return tensor.view(torch.bfloat16) if datatype == "BF16" else tensor


def array_of(tensor: torch.Tensor) -> Array:
    """Returns an array over the memory of a tensor on the host."""
    if tensor.requires_grad:
        tensor = tensor.detach()
    if tensor.dtype == torch.bfloat16:
        tensor = tensor.contiguous().view(torch.uint16)
    array: Array = tensor.numpy()
    return array


class HostTransfer:
    """The model computes on the CPU: nothing has to move."""

    def to_device(self, at: int, array: Array, datatype: str) -> torch.Tensor:
        """See `Transfer`."""
        return tensor_of(array, datatype)

    def to_host(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        """See `Transfer`."""
        return [array_of(tensor) for tensor in tensors]

    def memory_bytes(self) -> int | None:
        """See `Transfer`."""
        return None


class PlainTransfer:
    """Devices without pinned memory of their own: MPS and XPU."""

    def __init__(self, device: torch.device, module: Any) -> None:
        self._device = device
        self._module = module

    def to_device(self, at: int, array: Array, datatype: str) -> torch.Tensor:
        """See `Transfer`."""
        return tensor_of(array, datatype).to(self._device)

    def to_host(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        """See `Transfer`."""
        return [array_of(tensor.cpu()) for tensor in tensors]

    def memory_bytes(self) -> int | None:
        """See `Transfer`."""
        allocated = getattr(self._module, "driver_allocated_memory", None) or self._module.memory_reserved
        return int(allocated())


class CudaTransfer:
    """Copies through pinned memory, on a stream that belongs to this runner and is current while `stack` is open.

    A pinned buffer per input is kept and written again only after `to_host` has waited for the stream, so a copy that
    is under way never sees the next batch.
    """

    def __init__(self, device: torch.device, stack: ExitStack) -> None:
        torch.cuda.set_device(device)
        self._device = device
        self._free_before, _ = torch.cuda.mem_get_info(device)
        self._stream = torch.cuda.Stream(device)  # type: ignore[no-untyped-call]
        stack.enter_context(torch.cuda.stream(self._stream))
        self._staging: dict[int, torch.Tensor] = {}

    def to_device(self, at: int, array: Array, datatype: str) -> torch.Tensor:
        """See `Transfer`."""
        source = tensor_of(np.atleast_1d(array), datatype)
        staged = self._pinned(at, source.nbytes)[: source.nbytes].view(source.dtype).view(source.shape)
        staged.copy_(source)
        return staged.view(array.shape).to(self._device, non_blocking=True)

    def to_host(self, tensors: Sequence[torch.Tensor]) -> list[Array]:
        """See `Transfer`."""
        landed = []
        for tensor in tensors:
            # pinned memory comes from torch's caching host allocator: after the first batches this costs no system call
            host = torch.empty(tensor.shape, dtype=tensor.dtype, pin_memory=True)
            host.copy_(tensor, non_blocking=True)
            landed.append(host)
        self._stream.synchronize()
        return [array_of(host) for host in landed]

    def memory_bytes(self) -> int | None:
        """Returns what is no longer free on the device since this was made, at least what torch's allocator holds."""
        free, _ = torch.cuda.mem_get_info(self._device)
        return max(self._free_before - free, torch.cuda.memory_reserved(self._device))

    def _pinned(self, at: int, size: int) -> torch.Tensor:
        buffer = self._staging.get(at)
        if buffer is None or len(buffer) < size:
            buffer = self._staging[at] = torch.empty(size, dtype=torch.uint8, pin_memory=True)
        return buffer
