"""The synchronous client: the asynchronous one, driven on an event-loop thread of its own. Part of the public SDK."""

import asyncio
import functools
import threading
from collections.abc import AsyncIterator, Callable, Coroutine, Iterator
from concurrent.futures import Future
from types import TracebackType
from typing import Any, Concatenate, ParamSpec, TypeVar

from infermesh.client.async_client import AsyncClient
from infermesh.client.retry import Retry
from infermesh.client.tls import Tls
from infermesh.errors import FailedPrecondition

P = ParamSpec("P")
R = TypeVar("R")

Coroutines = Callable[Concatenate[AsyncClient, P], Coroutine[Any, Any, R]]
Iterations = Callable[Concatenate[AsyncClient, P], AsyncIterator[R]]


class LoopThread:
    """An event loop on a daemon thread; other threads hand it coroutines."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="infermesh-client", daemon=True)
        self._thread.start()

    @property
    def running(self) -> bool:
        """True until `stop`."""
        return not self._loop.is_closed()

    def start(self, coroutine: Coroutine[Any, Any, R]) -> Future[R]:
        """Starts a coroutine and returns its future; cancelling the future cancels it. Raises FailedPrecondition."""
        if not self.running:
            coroutine.close()
            raise FailedPrecondition("the client is closed")
        return asyncio.run_coroutine_threadsafe(coroutine, self._loop)

    def run(self, coroutine: Coroutine[Any, Any, R]) -> R:
        """Runs a coroutine to its end; an interrupt (Ctrl-C) of the waiting thread cancels it."""
        future = self.start(coroutine)
        try:
            return future.result()
        except BaseException:
            future.cancel()
            raise

    def stop(self) -> None:
        """Ends the loop and its thread. May be called again."""
        if self.running:
            self._loop.call_soon_threadsafe(self._loop.stop)
            self._thread.join()
            self._loop.close()


def _blocking(method: Coroutines[P, R]) -> Callable[Concatenate["Client", P], R]:
    @functools.wraps(method)
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> R:
        return self._thread.run(method(self._client, *args, **kwargs))

    return call


def _starting(method: Coroutines[P, R]) -> Callable[Concatenate["Client", P], Future[R]]:
    @functools.wraps(method)
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Future[R]:
        return self._thread.start(method(self._client, *args, **kwargs))

    return call


def _iterating(method: Iterations[P, R]) -> Callable[Concatenate["Client", P], Iterator[R]]:
    @functools.wraps(method)
    def call(self: "Client", /, *args: P.args, **kwargs: P.kwargs) -> Iterator[R]:
        items = method(self._client, *args, **kwargs)
        try:
            while True:
                try:
                    yield self._thread.run(_next(items))
                except StopAsyncIteration:
                    return
        finally:  # left early: the call behind it must not go on
            close = getattr(items, "aclose", None)
            if close is not None:
                self._thread.run(close())

    return call


async def _next(items: AsyncIterator[R]) -> R:
    return await anext(items)


class Client:
    """Talks to a mesh through its gateway, blocking. Safe to use from several threads.

    Arguments and methods are those of `AsyncClient`; where that yields asynchronously, this yields plainly.

        with Client("127.0.0.1:8080") as client:
            client.infer("digits", {"image": images})["logits"]
    """

    def __init__(
        self, address: str, *, timeout: float = 30.0, retry: Retry | None = None, tls: bool | Tls = False
    ) -> None:
        self._thread = LoopThread()
        try:
            self._client = self._thread.run(_construct(address, timeout, retry, tls))
        except BaseException:
            self._thread.stop()
            raise

    push = _blocking(AsyncClient.push)
    models = _iterating(AsyncClient.models)
    get_model = _blocking(AsyncClient.get_model)
    delete_model = _blocking(AsyncClient.delete_model)
    versions = _iterating(AsyncClient.versions)
    get_version = _blocking(AsyncClient.get_version)
    delete_version = _blocking(AsyncClient.delete_version)
    set_alias = _blocking(AsyncClient.set_alias)
    get_alias = _blocking(AsyncClient.get_alias)
    aliases = _iterating(AsyncClient.aliases)
    delete_alias = _blocking(AsyncClient.delete_alias)

    deploy = _blocking(AsyncClient.deploy)
    undeploy = _blocking(AsyncClient.undeploy)
    get_deployment = _blocking(AsyncClient.get_deployment)
    deployments = _iterating(AsyncClient.deployments)
    workers = _iterating(AsyncClient.workers)

    infer = _blocking(AsyncClient.infer)
    infer_async = _starting(AsyncClient.infer)
    infer_stream = _iterating(AsyncClient.infer_stream)
    live = _blocking(AsyncClient.live)
    ready = _blocking(AsyncClient.ready)
    metadata = _blocking(AsyncClient.metadata)
    statistics = _blocking(AsyncClient.statistics)
    server_metadata = _blocking(AsyncClient.server_metadata)

    @property
    def address(self) -> str:
        """The gateway's address."""
        return self._client.address

    def close(self) -> None:
        """Closes the connection and ends the thread; calls under way end with Cancelled. May be called again."""
        if self._thread.running:
            self._thread.run(self._client.close())
            self._thread.stop()

    def __enter__(self) -> "Client":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


async def _construct(address: str, timeout: float, retry: Retry | None, tls: bool | Tls) -> AsyncClient:
    # the channel belongs to the loop that it is made in
    return AsyncClient(address, timeout=timeout, retry=retry, tls=tls)
