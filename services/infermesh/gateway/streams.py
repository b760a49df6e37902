"""The seam between the gateway and a worker: one stream of bundles. Tests have one in memory beside the real one."""

import asyncio
from collections import deque
from typing import Final, Protocol

from google.protobuf.message import DecodeError

from infermesh.errors import WorkerLost
from infermesh.mesh.http2.client import ClientConnection, dial, failure
from infermesh.mesh.http2.stream import Fields, Stream
from infermesh.mesh.tls import Certificates
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle

SERVE: Final = "/infermesh.v1.WorkerService/Serve"


class ServeStream(Protocol):
    """One `WorkerService.Serve` stream. One task reads, another writes."""

    async def read(self) -> ResultBundle:
        """Returns the next bundle. Raises WorkerLost once the stream has ended, however it did."""
        ...

    async def write(self, bundle: WorkBundle) -> None:
        """Sends a bundle; returns when the next may be sent. Awaits futures only, see `Writer`.

        Raises WorkerLost once the stream has ended.
        """
        ...

    async def close(self) -> None:
        """Ends the stream at once. Never raises."""
        ...


class Connect(Protocol):
    """Opens streams."""

    def __call__(self, address: str, /) -> ServeStream:
        """Returns a stream to the worker at `address` (host:port). Does not block: a worker that isn't there is
        noticed by reading."""
        ...


class WireServeStream:
    """A stream over a connection of its own: what one connection went through must not slow the next one's coming.

    It connects when it is first used.
    """

    def __init__(self, address: str, certificates: Certificates | None = None) -> None:
        self._address, self._certificates = address, certificates
        self._connection: ClientConnection | None = None
        self._stream: Stream | None = None
        self._bundles: deque[ResultBundle] = deque()
        self._news: asyncio.Future[None] | None = None
        self._opened: asyncio.Future[None] | None = None
        self._why = ""  # why it is no more

    async def read(self) -> ResultBundle:
        """Returns the next bundle. Raises WorkerLost once the stream has ended."""
        if self._stream is None:
            await self._open()
        while not self._bundles:
            if self._why:
                raise self._lost()
            self._news = asyncio.get_running_loop().create_future()
            await self._news
        return self._bundles.popleft()

    async def _open(self) -> None:
        """Connects, or waits until whoever came first has."""
        if self._opened is not None:
            await asyncio.shield(self._opened)
            return
        self._opened = asyncio.get_running_loop().create_future()
        try:
            connection = self._connection = await dial(self._address, self._certificates)
            if self._why:
                connection.close()
                return
            self._stream = connection.call(SERVE)
            self._stream.events = self
        except OSError as error:
            self.lost(str(error))
        finally:
            self._why = self._why or ("" if self._stream is not None else "it was closed")
            self._opened.set_result(None)

    async def write(self, bundle: WorkBundle) -> None:
        """Sends a bundle. Raises WorkerLost once the stream has ended."""
        if self._stream is None:
            await self._open()
        stream = self._stream
        if self._why or stream is None:
            raise self._lost()
        stream.send(bundle.SerializeToString())
        if stream.congested:
            await stream.drained()
            if self._why:
                raise self._lost()

    async def close(self) -> None:
        """Ends the stream and its connection."""
        self._why = self._why or "it was closed"
        if self._stream is not None:
            self._stream.reset()
        if self._connection is not None:
            self._connection.close()
        self._tell()

    # -- what the worker does, see `Events` ----------------------------------------------------------------------------

    def headers(self, fields: Fields) -> None:
        """The worker takes the call, or says how it ends."""
        if why := failure(fields):
            self.lost(why)

    def message(self, data: bytes) -> None:
        """A bundle has come."""
        try:
            self._bundles.append(ResultBundle.FromString(data))
        except DecodeError:
            self.lost("it sent what is no bundle")
        self._tell()

    def ended(self) -> None:
        """The worker sends nothing more."""
        self.lost("it ended the stream")

    def lost(self, why: str) -> None:
        """The stream is no more; what has come before is still read."""
        self._why = self._why or why
        self._tell()

    def _tell(self) -> None:
        if self._news is not None and not self._news.done():
            self._news.set_result(None)

    def _lost(self) -> WorkerLost:
        text = f"the worker at {self._address} was lost: {self._why or 'it is not connected'}"
        return WorkerLost(text, metadata={"address": self._address}, retry_after=1.0)
