"""The gRPC port in memory: a client that speaks in frames, methods of every kind, and what was answered."""

import asyncio
from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from random import Random
from typing import Any
from urllib.parse import unquote

import hpack

from infermesh.gateway.config import ClientLimits
from infermesh.gateway.door.call import Desk
from infermesh.gateway.door.connection import DoorConnection, Port
from infermesh.gateway.framing.frames import Limits
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.vigil import Vigil
from infermesh.gateway.front import Front
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.frames import END_HEADERS, END_STREAM, Code, Frame, Kind, Setting, Splitter
from infermesh.mesh.messages import Decoder
from infermesh.mesh.wire import Bytes
from tests.unit.gateway.door_service import Service
from tests.unit.gateway_front.wire import framed
from tests.unit.mesh.http2_parts import turns

OK, CANCELLED, INVALID, LATE, EXHAUSTED, UNIMPLEMENTED, INTERNAL = 0, 1, 3, 4, 8, 12, 13
LARGEST = 4 << 20


class Pipe(asyncio.Transport):
    """What a connection writes to. Keeps it; tells that it is full if asked to."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.writes = 0
        self.end = ""
        """How it was closed, if it was."""
        self.reading = True
        self.resumed: Callable[[], None] = lambda: None

    def write(self, data: Bytes) -> None:  # type: ignore[override]
        assert not self.end
        self.sent += data
        self.writes += 1

    def writelines(self, parts: Iterable[Bytes]) -> None:  # type: ignore[override]
        self.write(b"".join(parts))

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None: ...

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        return default

    def is_closing(self) -> bool:
        return bool(self.end)

    def close(self) -> None:
        self.end = self.end or "closed"

    def abort(self) -> None:
        self.end = "aborted"

    def pause_reading(self) -> None:
        self.reading = False

    def resume_reading(self) -> None:
        self.reading = True
        self.resumed()


@dataclass
class Answer:
    """What came on a stream."""

    blocks: list[dict[bytes, bytes]] = field(default_factory=list)
    pieces: list[bytes] = field(default_factory=list, repr=False)
    """What each DATA frame held."""
    ended: bool = False
    reset: int | None = None

    @property
    def messages(self) -> list[bytes]:
        """The messages that are whole."""
        decoder, found = Decoder(1 << 30), []
        decoder.feed(b"".join(self.pieces))
        while (cut := decoder.cut()) is not None:
            found.append(cut[0])
        return found

    @property
    def code(self) -> int:
        """The gRPC status; fails if the answer is not whole."""
        assert self.ended, self
        return int(self.blocks[-1][b"grpc-status"])

    @property
    def text(self) -> str:
        """The gRPC message."""
        return unquote(self.blocks[-1].get(b"grpc-message", b"").decode())


class House:
    """A port, with a real front behind it."""

    def __init__(self, room: int = 1 << 30, **limits: Any) -> None:
        self.service = Service()
        self.guard = Guard(Limits(LARGEST))
        self.front = Front(self.service.methods(), _nowhere, self.guard)
        loop = asyncio.get_running_loop()
        settled: asyncio.Future[None] = loop.create_future()
        settled.set_result(None)
        self.desk = Desk(self.front.serve, LARGEST, loop, settled, set(), Vigil())
        calm = replace(ClientLimits(ping_interval=80_000, ping_timeout=80_000), **limits)
        methods = {path.encode(): method for path, method in self.front.methods.items()}
        self.port = Port(methods, self.desk, calm, room, Random(1))
        self.connections: set[DoorConnection] = set()


async def _nowhere(*_: Any) -> None:
    raise AssertionError("nothing here speaks HTTP")


class Caller:
    """A client. What it sends arrives at once, unless the port does not read; then it waits."""

    def __init__(self, house: House | None = None, *, greets: bool = True) -> None:
        self.house = house or House()
        self.service = self.house.service
        self.pipe = Pipe()
        self.pipe.resumed = self._go_on
        self.connection = DoorConnection(self.house.port, self.house.connections)
        self.connection.connection_made(self.pipe)
        self._unread: list[bytes] = []
        self._next = 1
        self._splitter, self._decoder, self._read = Splitter(), hpack.Decoder(), 0
        self.heard: list[Frame] = []
        """All frames that came."""
        self.answers: dict[int, Answer] = defaultdict(Answer)
        if greets:
            self.give(frames.PREFACE, frames.settings(()))

    def give(self, *parts: bytes, cut: int = 1 << 30) -> None:
        """Has bytes arrive, in pieces."""
        data = b"".join(parts)
        self._unread += [data[at : at + cut] for at in range(0, len(data), cut)]
        self._go_on()

    def _go_on(self) -> None:
        while self._unread and self.pipe.reading and not self.pipe.end:
            self.connection.data_received(self._unread.pop(0))

    def begin(self, name: str = "Direct", *fields: tuple[bytes, bytes], end: bool = False) -> int:
        """Sends the headers of a call, and returns its number."""
        number, block = self.headers(name, *fields)
        self.give(frames.frame(Kind.HEADERS, END_HEADERS | (END_STREAM if end else 0), number, block))
        return number

    def headers(self, name: str = "Direct", *fields: tuple[bytes, bytes]) -> tuple[int, bytes]:
        """Returns the number of a new call, and the block of its headers."""
        number, self._next = self._next, self._next + 2
        said = {b":method": b"POST", b":path": f"/test.Service/{name}".encode(), b"content-type": b"application/grpc"}
        return number, b"".join(frames.literal(*each) for each in (said | dict(fields)).items())

    def data(self, number: int, data: bytes, end: bool = False) -> None:
        """Sends a DATA frame."""
        self.give(frames.frame(Kind.DATA, END_STREAM if end else 0, number, data))

    def call(self, message: bytes, name: str = "Direct", *fields: tuple[bytes, bytes]) -> int:
        """Makes a call of one message, in one DATA frame, and returns its number."""
        number = self.begin(name, *fields)
        self.data(number, framed(message), end=True)
        return number

    def reset(self, number: int, code: Code = Code.CANCEL) -> None:
        """Cancels a call."""
        self.give(frames.rst_stream(number, code))

    def grant(self, octets: int, *streams: int) -> None:
        """Takes so much more, of the connection (0) or of streams."""
        self.give(*(frames.window_update(stream, octets) for stream in streams))

    def set(self, **values: int) -> None:
        """Sends settings."""
        self.give(frames.settings([(Setting[name], value) for name, value in values.items()]))

    def lose(self) -> None:
        """Is gone."""
        self.pipe.end = "lost"
        self.connection.connection_lost(ConnectionResetError("gone"))

    def answer(self, number: int) -> Answer:
        """Returns what has come on a stream by now."""
        self.listen()
        return self.answers[number]

    def listen(self) -> list[Frame]:
        """Reads what came, also what would have left in the loop's next turn, and returns all of it."""
        self.connection._flush()
        sent, self._read = self.pipe.sent[self._read :], len(self.pipe.sent)
        for each in self._splitter.feed(sent):
            self.heard.append(each)
            answer = self.answers[each.stream]
            assert not answer.ended or each.kind == Kind.RST_STREAM, "something comes after the end"
            if each.kind == Kind.HEADERS:
                answer.blocks.append(dict(self._decoder.decode(each.payload, raw=True)))
            elif each.kind == Kind.DATA:
                answer.pieces.append(bytes(each.payload))
            elif each.kind == Kind.RST_STREAM:
                answer.reset = int.from_bytes(each.payload, "big")
            if each.kind in (Kind.HEADERS, Kind.DATA):
                answer.ended = bool(each.flags & END_STREAM)
        return self.heard

    def granted(self, stream: int) -> int:
        """Returns how many bytes more may be sent than at first."""
        updates = [each for each in self.listen() if (each.kind, each.stream) == (Kind.WINDOW_UPDATE, stream)]
        return sum(int.from_bytes(each.payload, "big") for each in updates)

    def count(self, kind: Kind, stream: int | None = None) -> int:
        """Returns how many frames of a type came."""
        return sum(each.kind == kind and stream in (None, each.stream) for each in self.listen())

    @property
    def farewells(self) -> list[tuple[int, Code]]:
        """The GOAWAYs that came: the last stream that is served, and why."""
        payloads = [bytes(each.payload) for each in self.listen() if each.kind == Kind.GOAWAY]
        return [(int.from_bytes(each[:4], "big"), Code(int.from_bytes(each[4:8], "big"))) for each in payloads]

    @property
    def streams(self) -> dict[int, Any]:
        """The calls that are under way."""
        return self.connection.streams


async def done(caller: Caller, *numbers: int) -> list[Answer]:
    """Returns the answers once they are whole."""
    for _ in range(1_000):
        if all(caller.answer(number).ended for number in numbers):
            break
        await turns(5)
    return [caller.answer(number) for number in numbers]


def on_the_long_way(house: House) -> int:
    """Returns how many calls have a task."""
    return len(house.desk.running)


def burst(caller: Caller, count: int, name: str = "Direct") -> bytes:
    """Returns the frames of calls that come together; their messages are numbered."""
    sent = b""
    for place in range(count):
        number, block = caller.headers(name)
        sent += frames.frame(Kind.HEADERS, END_HEADERS, number, block)
        sent += frames.frame(Kind.DATA, END_STREAM, number, framed(b"%d" % place))
    return sent
