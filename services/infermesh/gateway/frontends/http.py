"""What the HTTP front ends share: bodies under a limit, callers who go away, errors as JSON.

A front end wraps each of its handlers in an `Endpoint`; the handler takes a starlette request and its whole body,
gives a response, and raises errors of the tree.
"""

import asyncio
import json
import zlib
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Final

import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import BaseRoute, Router
from starlette.types import ASGIApp, Receive, Scope, Send

from infermesh.errors import InvalidInput, MeshError, TooLarge, Unsupported
from infermesh.gateway.framing import failure
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.inbound import watch
from infermesh.mesh import status
from infermesh.mesh.messages import BadFrame

Handler = Callable[[Request, bytes], Awaitable[Response]]
ErrorBody = Callable[[MeshError], Any]

_WBITS: Final = {"gzip": 31, "deflate": 15}
_WORTH_SQUEEZING: Final = 1 << 10


class Endpoint:
    """The ASGI application of a handler: runs it, answers its errors, ends it when the caller goes away."""

    def __init__(self, handler: Handler, guard: Guard, errors: ErrorBody | None = None) -> None:
        self._handler = handler
        self._guard = guard
        self._errors = errors or _error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        task, gone, running = asyncio.current_task(), False, True

        def leave() -> None:
            nonlocal gone
            gone = running
            if task is not None and running:
                task.cancel()

        reading = _Reading(receive, self._guard)
        try:
            body = await reading.whole(Request(scope).headers.get("content-encoding", "identity"))
            if body is None:
                return
            watch(receive, leave, lambda: not running)
            response = await self._handler(Request(scope), body)
        except asyncio.CancelledError:
            if not gone:
                raise
            return
        except Exception as error:
            response = self._failed(scope, error)
        finally:
            reading.close()
        running = False
        _squeeze(response, Request(scope).headers.get("accept-encoding", ""))
        await response(scope, receive, send)

    def _failed(self, scope: Scope, error: Exception) -> Response:
        shown = failure.shown(error)
        if shown is not error:
            log = structlog.get_logger(__name__)
            log.error("unexpected error", path=scope["path"], request_id=shown.metadata["request_id"], exc_info=error)
        return to_json(self._errors(shown), status.http_of(shown), status.headers_of(shown))


def to_json(content: Any, code: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Returns a JSON response; NaN and infinities as the words that Python, and the clients, read."""
    body = json.dumps(content, separators=(",", ":"), ensure_ascii=False).encode("utf-8", "replace")
    return Response(body, code, headers, media_type="application/json")


def parse_json(body: bytes) -> dict[str, Any]:
    """Returns the object in a body; an empty body is an empty object. Raises InvalidInput."""
    try:
        content = json.loads(body) if body else {}
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"body: not JSON: {error}") from error
    if not isinstance(content, dict):
        raise InvalidInput(f"body: expected a JSON object, got {type(content).__name__}")
    return content


def create_http(routes: Sequence[BaseRoute]) -> ASGIApp:
    """Returns the application of routes; unknown paths and wrong methods are answered with JSON."""
    router = Router(routes, redirect_slashes=False)

    async def http(scope: Scope, receive: Receive, send: Send) -> None:
        try:
            # with an `app` in the scope, starlette raises instead of answering with plain text
            await router({**scope, "app": router}, receive, send)
        except HTTPException as error:
            response = to_json({"error": error.detail}, error.status_code, dict(error.headers or {}))
            await response(scope, receive, send)

    return http


class _Reading:
    """The body of one request."""

    def __init__(self, receive: Receive, guard: Guard) -> None:
        self._receive = receive
        self._guard = guard
        self._held = 0

    async def whole(self, encoding: str) -> bytes | None:
        """Returns the decompressed body, or None if the caller went away within it.

        Raises TooLarge, Unsupported, what `Guard` raises, and InvalidInput if it is not what `encoding` says.
        """
        began = asyncio.get_running_loop().time()
        event, chunks, limit = await self._guard.in_time(self._receive(), began, 0), [], self._guard.limits.message
        while event["type"] != "http.disconnect":
            chunk = event.get("body", b"")
            self._take(len(chunk))
            if self._held > limit:
                raise TooLarge.of("body", self._held, limit)
            chunks.append(chunk)
            if not event.get("more_body", False):
                return await self._plain(chunks[0] if len(chunks) == 1 else b"".join(chunks), encoding)
            event = await self._guard.in_time(self._receive(), began, self._held)
        return None

    async def _plain(self, body: bytes, encoding: str) -> bytes:
        if encoding == "identity":
            return body
        if encoding not in _WBITS:
            raise Unsupported(f"content-encoding: expected identity, gzip or deflate, got {encoding[:40]!r}")
        try:
            plain = await self._guard.inflate(body, encoding.encode())
        except BadFrame as error:
            raise InvalidInput(f"body: {error.message}") from error
        self._take(len(plain))
        return plain

    def _take(self, size: int) -> None:
        self._guard.take(size)
        self._held += size

    def close(self) -> None:
        """Says that the body is no longer needed."""
        self._guard.give(self._held)


def _squeeze(response: Response, accepted: str) -> None:
    """Compresses a body that is worth it, if the caller can read it."""
    encoding = next((name for name in _WBITS if name in accepted.lower()), None)
    if encoding is None or len(response.body) < _WORTH_SQUEEZING:
        return
    squeezer = zlib.compressobj(level=1, wbits=_WBITS[encoding])
    response.body = squeezer.compress(bytes(response.body)) + squeezer.flush()
    response.headers["content-encoding"] = encoding
    response.headers["content-length"] = str(len(response.body))
    response.headers["vary"] = "accept-encoding"


def _error_body(error: MeshError) -> Any:
    return {"error": error.message}
