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
from infermesh.gateway.framing.frames import BadFrame, inflate
from infermesh.gateway.framing.inbound import watch
from infermesh.mesh import status

Handler = Callable[[Request, bytes], Awaitable[Response]]
ErrorBody = Callable[[MeshError], Any]

_WBITS: Final = {"gzip": 31, "deflate": 15}
_WORTH_SQUEEZING: Final = 1 << 10


class Endpoint:
    """The ASGI application of a handler: runs it, answers its errors, ends it when the caller goes away."""

    def __init__(self, handler: Handler, limit: int, errors: ErrorBody | None = None) -> None:
        self._handler = handler
        self._limit = limit
        self._errors = errors or _error_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serves one request."""
        task, gone, running = asyncio.current_task(), False, True

        def leave() -> None:
            nonlocal gone
            gone = running
            if task is not None and running:
                task.cancel()

        try:
            body = await _read(receive, scope, self._limit)
            if body is None:
                return
            watch(receive, leave)
            response = await self._handler(Request(scope), body)
        except asyncio.CancelledError:
            if not gone:
                raise
            return
        except Exception as error:
            response = self._failed(scope, error)
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


async def _read(receive: Receive, scope: Scope, limit: int) -> bytes | None:
    """Returns the decompressed body, or None if the caller went away within it. Raises TooLarge, Unsupported."""
    chunks, size, more = [], 0, True
    while more:
        event = await receive()
        if event["type"] == "http.disconnect":
            return None
        chunk, more = event.get("body", b""), event.get("more_body", False)
        size += len(chunk)
        if size > limit:
            raise TooLarge.of("body", size, limit)
        chunks.append(chunk)
    body = chunks[0] if len(chunks) == 1 else b"".join(chunks)
    return _inflate(body, Request(scope).headers.get("content-encoding", "identity"), limit)


def _inflate(body: bytes, encoding: str, limit: int) -> bytes:
    if encoding == "identity":
        return body
    if encoding not in _WBITS:
        raise Unsupported(f"content-encoding: expected identity, gzip or deflate, got {encoding[:40]!r}")
    try:
        return inflate(body, encoding.encode(), limit)
    except BadFrame as error:
        raise InvalidInput(f"body: {error.message}") from error


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
