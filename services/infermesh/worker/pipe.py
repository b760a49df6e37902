"""A runner's end of the socket to its worker: blocking, one command at a time. Used by `runner_process.py` only."""

import select
import socket
from collections.abc import Sequence
from typing import Final

import numpy as np

from infermesh.v1 import runner_pb2
from infermesh.worker.frames import LENGTH, Bytes, head, payload_size

_SCRATCH_BYTES: Final = 64 * 1024
_PARTS_PER_CALL: Final = 64  # below every system's IOV_MAX


class Pipe:
    """Receives commands and sends replies over a connected, blocking stream socket, which it owns."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._scratch = memoryview(bytearray(_SCRATCH_BYTES))
        self._start = self._end = 0  # of what the scratch holds
        self._large = np.empty(0, dtype=np.uint8)
        self._news = select.poll()
        self._news.register(sock, select.POLLIN)

    def waiting(self) -> bool:
        """Tells whether there is something to receive: a command, the beginning of one, or the end."""
        return self._end > self._start or bool(self._news.poll(0))

    def receive(self) -> tuple[runner_pb2.RunnerCommand, memoryview] | None:
        """Waits for a command and returns it with its buffers; None when the worker is gone.

        The buffers are writable and stay valid until the next call.
        """
        if not self._fill(LENGTH.size):
            return None
        size = int(LENGTH.unpack_from(self._scratch, self._start)[0])
        self._start += LENGTH.size
        if not self._fill(size):
            return None
        command = runner_pb2.RunnerCommand.FromString(bytes(self._scratch[self._start : self._start + size]))
        self._start += size
        inputs = command.begin.inputs if command.HasField("begin") else command.run.inputs
        payload = self._payload(payload_size(inputs))
        return None if payload is None else (command, payload)

    def send(self, reply: runner_pb2.RunnerReply, buffers: Sequence[Bytes] = ()) -> None:
        """Sends a reply and its buffers. Raises OSError if the worker is gone."""
        parts = [memoryview(head(reply)), *(memoryview(part) for part in buffers if len(part))]
        while parts:
            sent = self._sock.sendmsg(parts[:_PARTS_PER_CALL])
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if sent:
                parts[0] = parts[0][sent:]

    def _fill(self, size: int) -> bool:
        """Receives until the scratch holds `size` unread bytes; tells whether they came."""
        have = self._end - self._start
        if have < size and self._start + size > len(self._scratch):
            scratch = self._scratch if size <= len(self._scratch) else memoryview(bytearray(size))
            scratch[:have] = bytes(self._scratch[self._start : self._end])
            self._scratch, self._start, self._end = scratch, 0, have
        elif not have:
            self._start = self._end = 0
        while self._end - self._start < size:
            got = self._sock.recv_into(self._scratch[self._end :])
            if not got:
                return False
            self._end += got
        return True

    def _payload(self, size: int) -> memoryview | None:
        """Returns the next `size` bytes: small ones copied out of the scratch, large ones received in place."""
        have = min(size, self._end - self._start)
        if have == size:
            target = memoryview(bytearray(self._scratch[self._start : self._start + size]))
        else:
            if len(self._large) < size:
                self._large = np.empty(size, dtype=np.uint8)
            target = self._large[:size].data
            target[:have] = self._scratch[self._start : self._start + have]
        self._start += have
        while have < size:
            got = self._sock.recv_into(target[have:])
            if not got:
                return None
            have += got
        return target
