"""Clients that take more than they should, on raw sockets, and one that behaves beside them.

`python -m tests.mesh.attacks ADDRESS` is the latter: a process of its own, so that the attackers' work does not count
as its waiting.
"""

import contextlib
import json
import math
import select
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import hpack

from tests.mesh.interop_messages import message

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, RST_STREAM, SETTINGS, PING, GOAWAY, WINDOW_UPDATE, CONTINUATION = 0, 1, 3, 4, 6, 7, 8, 9
END_STREAM, END_HEADERS, ACK = 1, 4, 1
UNARY = "/grpc.testing.TestService/UnaryCall"
_ROOT = Path(__file__).resolve().parents[2]


def frame(kind: int, flags: int, stream: int, payload: bytes = b"") -> bytes:
    """Returns an HTTP/2 frame."""
    return len(payload).to_bytes(3, "big") + bytes((kind, flags)) + stream.to_bytes(4, "big") + payload


def grpc_headers(path: str, *more: tuple[str, str]) -> bytes:
    """Returns the header block of a gRPC request, in itself complete: nothing goes into a table."""
    pairs = [(":method", "POST"), (":scheme", "http"), (":path", path), (":authority", "x"), ("te", "trailers")]
    pairs += [("content-type", "application/grpc"), *more]
    return b"".join(b"\0" + _text(key) + _text(value) for key, value in pairs)


def _text(value: str) -> bytes:
    return bytes((len(value),)) + value.encode()


def framed(payload: bytes, flag: int = 0) -> bytes:
    """Returns a gRPC frame."""
    return bytes((flag,)) + len(payload).to_bytes(4, "big") + payload


@dataclass
class Peer:
    """One connection, and what the server said on it."""

    sock: socket.socket
    closed: bool = False
    goaway: int | None = None
    resets: dict[int, int] = field(default_factory=dict)
    headers: dict[int, dict[str, str]] = field(default_factory=dict)
    received: int = 0
    raw: bytes = b""
    window: dict[int, int] = field(default_factory=lambda: {0: 65_535, 1: 65_535})

    def __post_init__(self) -> None:
        self._decoder = hpack.Decoder()

    def send(self, *parts: bytes) -> None:
        """Sends, unless the server has hung up."""
        try:
            self.sock.sendall(b"".join(parts))
        except OSError:
            self.closed = True

    def read(self) -> None:
        """Takes what has come."""
        try:
            data = self.sock.recv(1 << 18)
        except OSError:
            data = b""
        self.closed = self.closed or not data
        self.raw += data
        if self.raw[:4] != b"HTTP":
            while len(self.raw) >= 9 and len(self.raw) >= 9 + int.from_bytes(self.raw[:3], "big"):
                end = 9 + int.from_bytes(self.raw[:3], "big")
                self._take(self.raw[3], self.raw[4], int.from_bytes(self.raw[5:9], "big"), self.raw[9:end])
                self.raw = self.raw[end:]

    def _take(self, kind: int, flags: int, stream: int, payload: bytes) -> None:
        if kind == PING and not flags & ACK:
            self.send(frame(PING, ACK, 0, payload))
        elif kind == SETTINGS and not flags & ACK:
            for at in range(0, len(payload), 6):
                if payload[at + 1] == 4:
                    self.window[1] += int.from_bytes(payload[at + 2 : at + 6], "big") - 65_535
            self.send(frame(SETTINGS, ACK, 0))
        elif kind == WINDOW_UPDATE:
            self.window[stream] = self.window.get(stream, 0) + int.from_bytes(payload, "big")
        elif kind == RST_STREAM:
            self.resets[stream] = int.from_bytes(payload, "big")
        elif kind == GOAWAY:
            self.goaway = int.from_bytes(payload[4:8], "big")
        elif kind == HEADERS:
            self.headers.setdefault(stream, {}).update(self._decoder.decode(payload))
        elif kind == DATA:
            self.received += len(payload)

    def pour(self, data: bytes) -> None:
        """Sends bytes on the first stream, as many as it may."""
        data = data[: max(0, min(self.window[0], self.window[1]))]
        for at in range(0, len(data), 16_000):
            self.send(frame(DATA, 0, 1, data[at : at + 16_000]))
        self.window[0] -= len(data)
        self.window[1] -= len(data)

    def status(self, stream: int) -> int | None:
        """Returns the gRPC status that a stream ended with, or None."""
        text = self.headers.get(stream, {}).get("grpc-status")
        return None if text is None else int(text)


class Attackers:
    """Connections to one server, closed together."""

    def __init__(self, address: str) -> None:
        host, _, port = address.rpartition(":")
        self._where = (host, int(port))
        self.peers: list[Peer] = []

    def connect(self, *parts: bytes, buffer: int = 0) -> Peer:
        """Opens a connection that says something first."""
        sock = socket.socket()
        if buffer:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
        sock.connect(self._where)
        peer = Peer(sock)
        self.peers.append(peer)
        peer.send(*parts)
        return peer

    def http2(self, *parts: bytes) -> Peer:
        """Opens a connection that speaks HTTP/2."""
        return self.connect(PREFACE, frame(SETTINGS, 0, 0), *parts)

    def run(
        self, seconds: float, step: Callable[[], object] | None = None, until: Callable[[], bool] | None = None
    ) -> float:
        """Reads what comes for some seconds, or until something holds; returns how long that took."""
        began = time.monotonic()
        while (passed := time.monotonic() - began) < seconds and not (until is not None and until()):
            if step is not None:
                step()
            open_ = {peer.sock.fileno(): peer for peer in self.peers if not peer.closed}
            if not open_:
                break
            poll = select.poll()
            for number in open_:
                poll.register(number, select.POLLIN)
            for number, _ in poll.poll(20):
                open_[number].read()
        return passed

    def close(self) -> None:
        """Hangs up."""
        for peer in self.peers:
            peer.sock.close()


@contextlib.contextmanager
def attackers(address: str) -> Iterator[Attackers]:
    """Yields connections to a server, and closes them."""
    them = Attackers(address)
    try:
        yield them
    finally:
        them.close()


@dataclass(frozen=True)
class Calls:
    """What became of a time's well-behaved calls; latencies in seconds, sorted."""

    latencies: list[float]
    failures: list[str]

    def percentile(self, share: float) -> float:
        """Returns a percentile of the latencies."""
        return self.latencies[max(0, math.ceil(share * len(self.latencies)) - 1)]


class Bystander:
    """A process that makes a small call every few milliseconds for as long as it lives."""

    def __init__(self, address: str) -> None:
        command = [sys.executable, "-m", __name__, address]
        self._process = subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self._process.stdout is not None
        assert self._process.stdout.readline() == "ready\n"

    def calls(self) -> Calls:
        """Returns the calls since this was last asked, or since the beginning."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write("\n")
        self._process.stdin.flush()
        got = json.loads(self._process.stdout.readline())
        return Calls(sorted(got["latencies"]), got["failures"])

    def close(self) -> None:
        """Ends it."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.close()
        self._process.wait(10)
        self._process.stdout.close()


def _behave(address: str) -> None:
    request = message("SimpleRequest")(response_size=100)
    with grpc.insecure_channel(address) as channel:
        call = channel.unary_unary(UNARY, request_serializer=lambda m: m.SerializeToString())
        call(request, timeout=10, wait_for_ready=True)
        print("ready", flush=True)
        latencies: list[float] = []
        failures: list[str] = []
        while True:
            began = time.monotonic()
            try:
                call(request, timeout=5)
                latencies.append(time.monotonic() - began)
            except grpc.RpcError as error:
                failures.append(str(error.code()))
            if select.select([sys.stdin], [], [], 0.004)[0]:
                if not sys.stdin.readline():
                    return
                print(json.dumps({"latencies": latencies, "failures": failures}), flush=True)
                latencies, failures = [], []


if __name__ == "__main__":
    _behave(sys.argv[1])
