"""Plays Envoy to the framing and the front: scripted requests in, recorded responses out, in memory."""

import asyncio
from collections import deque
from collections.abc import Awaitable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from google.rpc import status_pb2

from infermesh.gateway.framing import frames, metadata
from infermesh.gateway.framing.exchange import Exchange
from infermesh.gateway.framing.frames import Limits
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.methods import Method
from infermesh.mesh.messages import Decoder

DISCONNECT = {"type": "http.disconnect"}


def body(data: bytes, more: bool = False) -> dict[str, Any]:
    """Returns the event of a chunk of a request."""
    return {"type": "http.request", "body": data, "more_body": more}


def framed(*messages: bytes) -> bytes:
    """Returns the frames of messages, not compressed."""
    return b"".join(map(frames.encode, messages))


class Messages(Decoder):
    """Cuts and decompresses messages."""

    def __init__(self, encoding: bytes, limit: int) -> None:
        super().__init__(limit)
        self._how = (encoding, Limits(limit))

    def next(self) -> bytes | None:
        """Returns the next whole message, or None."""
        cut = self.cut()
        if cut is None:
            return None
        message, compressed = cut
        return frames.inflate(message, *self._how) if compressed else message


@dataclass
class Answer:
    """What came back."""

    events: list[dict[str, Any]] = field(default_factory=list)

    @property
    def status(self) -> int:
        """The HTTP status."""
        return self.events[0]["status"]

    @property
    def headers(self) -> dict[bytes, bytes]:
        """The headers."""
        return dict(self.events[0]["headers"])

    @property
    def trailers(self) -> dict[bytes, bytes]:
        """The trailers."""
        assert [e["type"] for e in self.events][-1] == "http.response.trailers", self.events
        return dict(self.events[-1]["headers"])

    @property
    def code(self) -> int:
        """The gRPC status code."""
        return int(self.trailers[b"grpc-status"])

    @property
    def text(self) -> str:
        """The gRPC message, still percent-encoded."""
        return self.trailers.get(b"grpc-message", b"").decode()

    @property
    def details(self) -> status_pb2.Status:
        """The rich status."""
        raw = self.trailers[b"grpc-status-details-bin"]
        return status_pb2.Status.FromString(metadata.decode_binary("details", raw))

    @property
    def body(self) -> bytes:
        """All of the body."""
        return b"".join(e["body"] for e in self.events if e["type"] == "http.response.body")

    @property
    def messages(self) -> list[bytes]:
        """The messages of the body."""
        encoding = self.headers.get(b"grpc-encoding", b"identity")
        decoder = Messages(encoding, 1 << 30)
        decoder.feed(self.body)
        found = []
        while (message := decoder.next()) is not None:
            found.append(message)
        decoder.finish()
        return found

    def check_order(self) -> None:
        """Asserts what ASGI demands: start, bodies of which only the last is final, then trailers."""
        kinds = [e["type"].removeprefix("http.response.") for e in self.events]
        assert kinds[0] == "start"
        assert kinds[-1] == "trailers"
        assert set(kinds[1:-1]) == {"body"}
        finals = [not e["more_body"] for e in self.events[1:-1]]
        assert finals == [False] * (len(finals) - 1) + [True]


class Wire:
    """One connection: `receive` and `send` as Envoy has them."""

    def __init__(self, *events: dict[str, Any]) -> None:
        self._events: deque[dict[str, Any]] = deque()
        self._asked: asyncio.Future[dict[str, Any]] | None = None
        self.asked = 0
        self.answer = Answer()
        for event in events:
            self.put(event)

    def put(self, event: dict[str, Any]) -> None:
        """Lets an event happen."""
        self._events.append(event)
        self._give()

    def receive(self) -> "asyncio.Future[dict[str, Any]]":
        """Gives a future of the next event."""
        self.asked += 1
        self._asked = asyncio.get_running_loop().create_future()
        asked = self._asked
        self._give()
        return asked

    def _give(self) -> None:
        if self._events and self._asked is not None and not self._asked.done():
            self._asked.set_result(self._events.popleft())

    def send(self, event: dict[str, Any]) -> Awaitable[None]:
        """Takes a part of the answer: at once, as Envoy does, not when what it gives is awaited."""
        self.answer.events.append(dict(event))
        return asyncio.sleep(0) if event.get("more_body") else _Done()


class _Done:
    """An awaitable that does not make wait, and need not be awaited."""

    def __await__(self) -> Iterator[Any]:
        yield from ()


def scope(path: str = "/test.Service/Method", headers: Iterable[tuple[str, str]] = (), **more: Any) -> dict[str, Any]:
    """Returns the scope of a gRPC request."""
    pairs = [("content-type", "application/grpc"), ("te", "trailers"), *headers]
    raw = [(key.encode(), value.encode()) for key, value in pairs]
    return {"type": "http", "method": "POST", "path": path, "http_version": "2", "headers": raw, **more}


async def exchange(method: Method, wire: Wire, *headers: tuple[str, str], limit: int = 1 << 20) -> Answer:
    """Runs one call and returns its answer."""
    request = scope(headers=headers)
    known = dict(request["headers"])
    await Exchange(request, wire.receive, wire.send, method, known, Guard(Limits(limit))).run()
    return wire.answer


async def call(method: Method, data: bytes, *headers: tuple[str, str], limit: int = 1 << 20) -> Answer:
    """Runs one call whose request body is `data`."""
    return await exchange(method, Wire(body(data)), *headers, limit=limit)
