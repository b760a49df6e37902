"""The ASGI callable: one dictionary look-up sends a request to its gRPC method, all others go to the HTTP routes."""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from typing import Final

from starlette.types import ASGIApp

from infermesh.errors import NotReady, Unsupported
from infermesh.gateway.framing.direct import Direct
from infermesh.gateway.framing.exchange import Exchange, Scope, Send
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.inbound import Event, Receive
from infermesh.gateway.framing.methods import Context, Method, Methods
from infermesh.gateway.framing.vigil import Vigil
from infermesh.gateway.frontends.base import Frontend
from infermesh.gateway.frontends.http import create_http

_GRPC: Final = b"application/grpc"
GRPC_TYPES: Final = frozenset({_GRPC, b"application/grpc+proto"})


class Front:
    """Serves `methods` by gRPC and `http` for everything else."""

    def __init__(
        self, methods: Methods, http: ASGIApp, guard: Guard, closers: Sequence[Callable[[], None]] = ()
    ) -> None:
        self.methods = methods
        """The gRPC methods by path."""
        self._http = http
        self._guard = guard
        self._unknown = Method(self._refuse, client_stream=True, server_stream=True)
        self._closers = closers
        self._standing: set[Exchange] = set()
        self._vigil = Vigil()

    def __call__(self, scope: Scope, receive: Receive, send: Send) -> Awaitable[None]:
        """Serves one request."""
        method = self.methods.get(scope["path"])
        known: dict[bytes, bytes] = dict(scope["headers"])
        if method is not None and method.direct is not None and _is_plain(scope, known):
            return Direct(scope, receive, send, method, known, self._guard, self._vigil).begin()
        return self.serve(scope, receive, send, method, known)

    async def serve(
        self, scope: Scope, receive: Receive, send: Send, method: Method | None, known: Mapping[bytes, bytes]
    ) -> None:
        """Serves one request by a task; `known` are its headers as a mapping."""
        kind = known.get(b"content-type", b"")
        if not kind.startswith(_GRPC) and method is None:
            await self._http(scope, receive, send)
        elif scope["method"] != "POST" or scope["http_version"] != "2" or kind.partition(b";")[0] not in GRPC_TYPES:
            await _not_grpc(send)
        elif method is None or method.standing:
            await self._stand(Exchange(scope, receive, send, method or self._unknown, known, self._guard))
        else:
            await Exchange(scope, receive, send, method, known, self._guard).run()

    async def show_life(self, every: float) -> None:
        """Shows, for ever, that calls are alive which have been silent for `every` seconds or longer."""
        await self._guard.show_life(every)

    def services(self) -> set[str]:
        """Returns the names of all gRPC services."""
        return {path.lstrip("/").rpartition("/")[0] for path in self.methods}

    def close(self) -> None:
        """Ends the calls that never end by themselves, and tells the front ends."""
        for close in self._closers:
            close()
        for exchange in list(self._standing):
            exchange.stop(NotReady("the gateway is shutting down; ask another one", retry_after=1.0))

    async def _stand(self, exchange: Exchange) -> None:
        self._standing.add(exchange)
        try:
            await exchange.run()
        finally:
            self._standing.discard(exchange)

    def _refuse(self, requests: AsyncIterator[bytes], context: Context) -> AsyncIterator[bytes]:
        service, _, name = context.path.lstrip("/").rpartition("/")
        known = self.services()
        if service in known:
            raise Unsupported(f"unknown method '{name[:200]}' of service '{service}'")
        raise Unsupported(f"unknown service '{service[:200]}'; served here: {', '.join(sorted(known))}")


def _is_plain(scope: Scope, known: Mapping[bytes, bytes]) -> bool:
    return (
        known.get(b"content-type") in GRPC_TYPES
        and b"grpc-encoding" not in known
        and scope["method"] == "POST"
        and scope["http_version"] == "2"
    )


async def _not_grpc(send: Send) -> None:
    text = b'{"error":"this path speaks gRPC: expected POST over HTTP/2 with content-type application/grpc"}'
    headers = [(b"content-type", b"application/json"), (b"content-length", b"%d" % len(text))]
    start: Event = {"type": "http.response.start", "status": 415, "headers": headers}
    await send(start)
    await send({"type": "http.response.body", "body": text, "more_body": False})


def mount(frontends: Sequence[Frontend], guard: Guard, closers: Sequence[Callable[[], None]] = ()) -> Front:
    """Returns the front that serves all of them.

    `guard` says what requests may take; `closers` are called when the drain begins.
    """
    methods = {path: method for frontend in frontends for path, method in frontend.methods().items()}
    routes = [route for frontend in frontends for route in frontend.routes()]
    return Front(methods, create_http(routes), guard, closers)
