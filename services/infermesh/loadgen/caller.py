"""Calls over gRPC: bytes out, bytes in, nothing decoded but how a call ended."""

import asyncio
import base64
from collections.abc import Sequence
from typing import Final

import grpc
import hpack
from google.protobuf.message import DecodeError
from google.rpc import status_pb2

from infermesh.errors import NotReady
from infermesh.loadgen.connection import AGAIN, Connection
from infermesh.loadgen.recording import OK
from infermesh.mesh.http2.frames import literal
from infermesh.mesh.status import DETAILS_KEY, from_status

INFER: Final = "/inference.GRPCInferenceService/ModelInfer"
_REFUSED: Final = "UNAVAILABLE NOT_CONNECTED"
_CODES: Final = {code.value[0]: code.name for code in grpc.StatusCode}
_REMEMBERED: Final = 1_000
_TRIES: Final = 3  # connections for a call that no server has looked at


class Caller:
    """A `runner.Caller` over several connections, used in turn; one that is closed is made again.

    `address` is host:port. Construct it in the event loop that will use it.
    """

    def __init__(self, address: str, messages: Sequence[bytes], connections: int = 1) -> None:
        self._host, _, port = address.rpartition(":")
        self._port = int(port)
        self._bodies = [b"\0" + len(message).to_bytes(4, "big") + message for message in messages]
        self._headers = request_headers(address, INFER)
        self._ends = Ends()
        self._connections: list[Connection | None] = [None] * connections
        self._making = [asyncio.Lock() for _ in range(connections)]

    async def open(self, timeout: float) -> None:
        """Connects, and makes one call on each connection. Raises the MeshError that such a call ends with."""
        calls = (self.call(number, timeout) for number in range(len(self._connections)))
        for end in await asyncio.gather(*calls):
            if end == _REFUSED:
                raise NotReady(f"nobody listens at {self._host}:{self._port}")
            if end != OK:
                raise from_status(self._ends.failures.get(end, status_pb2.Status(code=14, message=end)))

    async def call(self, number: int, timeout: float) -> str:
        """Sends message `number` (modulo); returns OK, or code and reason of its failure."""
        place, body = number % len(self._connections), self._bodies[number % len(self._bodies)]
        end = AGAIN
        for _ in range(_TRIES):
            connection = self._connections[place]
            if connection is None or not connection.open:
                try:
                    connection = await self._connect(place)
                except OSError:
                    return _REFUSED
            end = await connection.call(body, timeout)
            if end != AGAIN:
                break
        return end

    async def _connect(self, place: int) -> Connection:
        async with self._making[place]:
            connection = self._connections[place]
            if connection is None or not connection.open:
                loop = asyncio.get_running_loop()
                host = self._host.strip("[]")
                made = await loop.create_connection(lambda: Connection(self._headers, self._ends), host, self._port)
                connection = self._connections[place] = made[1]
            return connection

    async def close(self) -> None:
        """Closes the connections; calls under way end."""
        for connection in self._connections:
            if connection is not None:
                connection.close()
        await asyncio.sleep(0)  # in which the transports close


def request_headers(address: str, path: str) -> bytes:
    """Returns the header block of a gRPC call without a deadline."""
    fields = ((b"content-type", b"application/grpc"), (b"te", b"trailers"), (b"user-agent", b"infermesh-bench"))
    post_http = b"\x83\x86"  # from the static table: method and scheme; pseudo-headers go first
    pseudo = literal(b":path", path.encode()) + literal(b":authority", address.encode())
    return post_http + pseudo + b"".join(literal(*pair) for pair in fields)


class Ends:
    """Reads how calls ended, by their last header block; most of them are alike, and are remembered."""

    def __init__(self) -> None:
        self._known: dict[bytes, str] = {}
        self.failures: dict[str, status_pb2.Status] = {}
        """The first failure of each kind."""

    def __call__(self, block: bytes, answered: bool) -> str:
        """Returns OK, or code and reason."""
        end = self._known.get(block)
        if end is None:
            end = self._read(block)
            if len(self._known) < _REMEMBERED:
                self._known[block] = end
        return end if answered or end != OK else "INTERNAL NO_MESSAGE"

    def _read(self, block: bytes) -> str:
        fields = dict(hpack.Decoder().decode(block, raw=True))
        code = fields.get(b"grpc-status", b"")
        if code == b"0":
            return OK
        if not code.isdigit():
            return f"UNAVAILABLE HTTP_{fields[b':status'].decode()}" if b":status" in fields else "INTERNAL NO_STATUS"
        status = _status(int(code), fields)
        end = f"{_CODES.get(int(code), 'UNKNOWN')} {from_status(status).reason}"
        self.failures.setdefault(end, status)
        return end


def _status(code: int, fields: dict[bytes, bytes]) -> status_pb2.Status:
    details = fields.get(DETAILS_KEY.encode(), b"")
    status = status_pb2.Status()
    try:
        status.ParseFromString(base64.b64decode(details + b"=" * (-len(details) % 4)))
    except (ValueError, DecodeError):
        status.Clear()
    if status.code != code:
        return status_pb2.Status(code=code, message=fields.get(b"grpc-message", b"").decode(errors="replace"))
    return status
