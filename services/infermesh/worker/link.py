"""The worker's end of the socket to a runner: cuts the stream into replies. Used by `runner.py` only.

Small replies are parsed where they were received; the buffers of large ones are received straight into their own
memory, so that nothing is copied twice.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import numpy as np

from infermesh.v1 import runner_pb2
from infermesh.worker.frames import LENGTH, following, payload_size

_SCRATCH_BYTES: Final = 64 * 1024


class Link(asyncio.BufferedProtocol):
    """Calls `on_reply` with each reply and its buffers, in order, and `on_lost` once when the socket has ended."""

    def __init__(
        self, on_reply: Callable[[runner_pb2.RunnerReply, memoryview], None], on_lost: Callable[[], None]
    ) -> None:
        self._on_reply = on_reply
        self._on_lost = on_lost
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._end = 0  # of what the scratch holds
        self._reply: runner_pb2.RunnerReply | None = None  # whose payload is being received into `_payload`
        self._payload = memoryview(b"")
        self._filled = 0

    def get_buffer(self, sizehint: int) -> memoryview:
        """Says where the next bytes go."""
        if self._reply is not None:
            return self._payload[self._filled :]
        return self._scratch[self._end :]

    def buffer_updated(self, nbytes: int) -> None:
        """Takes `nbytes` that were received."""
        if self._reply is None:
            self._end += nbytes
            self._parse()
            return
        self._filled += nbytes
        if self._filled == len(self._payload):
            reply, self._reply = self._reply, None
            self._on_reply(reply, self._payload)

    def connection_lost(self, exc: Exception | None) -> None:
        """Takes the end of the stream."""
        self._on_lost()

    def _parse(self) -> None:
        at = 0
        while self._reply is None and (header_end := self._header_end(at)) <= self._end:
            reply = runner_pb2.RunnerReply.FromString(bytes(self._scratch[at + LENGTH.size : header_end]))
            at = self._take_payload(reply, header_end)
        rest = self._end - at
        if rest and at:
            self._scratch[:rest] = bytes(self._scratch[at : self._end])
        self._end = rest

    def _header_end(self, at: int) -> int:
        """Returns where the header at `at` ends: beyond `_end` while it is incomplete."""
        if self._end - at < LENGTH.size:
            return self._end + 1
        header_end = at + LENGTH.size + int(LENGTH.unpack_from(self._scratch, at)[0])
        if header_end - at > len(self._scratch):
            self._grow(header_end - at)
        return header_end

    def _grow(self, size: int) -> None:
        scratch = memoryview(bytearray(size))
        scratch[: self._end] = self._scratch[: self._end]
        self._scratch = scratch

    def _take_payload(self, reply: runner_pb2.RunnerReply, at: int) -> int:
        """Delivers the reply, or makes ready to receive the rest of its payload; returns where parsing goes on."""
        size = payload_size(following(reply))
        have = min(size, self._end - at)
        if have == size:
            self._on_reply(reply, memoryview(bytes(self._scratch[at : at + size])))
        else:
            self._reply, self._filled = reply, have
            self._payload = np.empty(size, dtype=np.uint8).data  # unlike bytearray: not filled with zeros first
            self._payload[:have] = self._scratch[at : at + have]
        return at + have
