"""The seam between the gateway and a worker: one stream of bundles. Tests have one in memory beside the real one."""

import asyncio
from collections.abc import Callable
from typing import Final, NoReturn, Protocol

from google.protobuf.message import DecodeError

from infermesh.errors import WorkerLost
from infermesh.mesh.http2.client import ClientConnection, dial, failure
from infermesh.mesh.http2.outgoing import Fields
from infermesh.mesh.http2.stream import Stream
from infermesh.mesh.parcel import Large, Parcel, pieces, read
from infermesh.mesh.tls import Certificates
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle

SERVE: Final = "/infermesh.v1.WorkerService/Serve"
Take = Callable[[ResultBundle, Large], None]


class ServeStream(Protocol):
    """One `WorkerService.Serve` stream, used once."""

    async def run(self, take: Take) -> NoReturn:
        """Connects, and gives `take` every bundle as it comes, and its large payloads. Raises WorkerLost once the
        stream has ended, however it did, or what `take` raised. Cancel-safe: then `close` it."""
        ...

    def write(self, parcel: Parcel[WorkBundle]) -> "asyncio.Future[None] | None":
        """Sends a bundle; not before the first one has come. Returns None if the next may be sent at once, else a
        future that is done when it may. Raises WorkerLost once the stream has ended."""
        ...

    async def close(self) -> None:
        """Ends the stream at once. Never raises."""
        ...


class Connect(Protocol):
    """Opens streams."""

    def __call__(self, address: str, /) -> ServeStream:
        """Returns a stream to the worker at `address` (host:port), which is yet to be connected."""
        ...


class WireServeStream:
    """A stream over a connection of its own: what one connection went through must not slow the next one's coming.

    A bundle is taken in the turn of the event loop that has read it.
    """

    def __init__(self, address: str, certificates: Certificates | None = None) -> None:
        self._address, self._certificates = address, certificates
        self._connection: ClientConnection | None = None
        self._stream: Stream | None = None
        self._take: Take = lambda bundle, large: None
        self._end: asyncio.Future[Exception] = asyncio.get_running_loop().create_future()

    async def run(self, take: Take) -> NoReturn:
        """Connects, and gives `take` every bundle. Raises WorkerLost once the stream has ended."""
        self._take = take
        try:
            self._connection = await dial(self._address, self._certificates)
        except OSError as error:
            raise self._lost(str(error)) from error
        self._stream = self._connection.call(SERVE)
        self._stream.events = self
        raise await self._end

    def write(self, parcel: Parcel[WorkBundle]) -> "asyncio.Future[None] | None":
        """Sends a bundle. Raises WorkerLost once the stream has ended."""
        stream = self._stream
        if stream is None or not stream.open:
            raise self._lost("it is not connected")
        stream.send(*pieces(parcel))
        return stream.drained() if stream.congested else None

    async def close(self) -> None:
        """Ends the stream and its connection."""
        if self._stream is not None:
            self._stream.reset()
        if self._connection is not None:
            self._connection.close()

    # -- what the worker does, see `Events` ----------------------------------------------------------------------------

    def headers(self, fields: Fields) -> None:
        """The worker takes the call, or says how it ends."""
        if why := failure(fields):
            self.lost(why)

    def message(self, data: bytes) -> None:
        """A bundle has come."""
        try:
            self._take(*read(data, ResultBundle))
        except DecodeError:
            self.lost("it sent what is no bundle")
        except Exception as fault:  # ours: whoever runs this is told
            self._finish(fault)

    def ended(self) -> None:
        """The worker sends nothing more."""
        self.lost("it ended the stream")

    def lost(self, why: str) -> None:
        """The stream is no more."""
        self._finish(self._lost(why))

    def _finish(self, error: Exception) -> None:
        if not self._end.done():
            self._end.set_result(error)

    def _lost(self, why: str) -> WorkerLost:
        text = f"the worker at {self._address} was lost: {why}"
        return WorkerLost(text, metadata={"address": self._address}, retry_after=1.0)
