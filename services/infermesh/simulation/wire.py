"""The stream between gateway and worker, in memory: bundles arrive after a delay, in order, unchanged."""

import asyncio
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import NoReturn, Protocol

from infermesh.errors import WorkerLost
from infermesh.mesh.parcel import Large, Parcel
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle


class Far(Protocol):
    """The worker's end of a stream."""

    def take(self, bundle: WorkBundle, large: Large, /) -> None:
        """Takes a bundle of work."""
        ...

    def close(self) -> None:
        """The gateway has gone."""
        ...


class Wire:
    """A `ServeStream` of the gateway. `dial` gets the way back and returns the worker's end."""

    def __init__(self, delay: float, dial: Callable[[Callable[[Parcel[ResultBundle]], None]], Far]) -> None:
        self._loop = asyncio.get_running_loop()
        self._delay = delay
        self._arrived: deque[Parcel[ResultBundle]] = deque()
        self._reader: asyncio.Future[None] | None = None
        self._closed = False
        self._far = dial(self._send_back)

    def _send_back(self, parcel: Parcel[ResultBundle]) -> None:
        self._loop.call_later(self._delay, self._arrive, parcel)

    def _arrive(self, parcel: Parcel[ResultBundle]) -> None:
        self._arrived.append(parcel)
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)

    async def run(self, take: Callable[[ResultBundle, Large], None]) -> NoReturn:
        """Gives `take` every bundle. Raises WorkerLost once the stream is closed."""
        while True:
            while self._arrived:
                take(*self._arrived.popleft())
            if self._closed:
                raise WorkerLost("the stream is closed")
            self._reader = self._loop.create_future()
            await self._reader

    def write(self, parcel: Parcel[WorkBundle]) -> None:
        """Sends a bundle; there is always room."""
        self._loop.call_later(self._delay, partial(self._far.take, *parcel))

    async def close(self) -> None:
        """Ends the stream."""
        self._closed = True
        self._far.close()
