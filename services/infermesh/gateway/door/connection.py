"""A client's connection to the gRPC port: takes calls, within limits."""

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Final

from infermesh.gateway.config import ClientLimits
from infermesh.gateway.door.body import WINDOW
from infermesh.gateway.door.call import Desk, DoorCall
from infermesh.gateway.door.gathering import Gathering
from infermesh.gateway.farewell import DRAIN_TIMEOUT
from infermesh.gateway.framing.methods import Method
from infermesh.gateway.front import GRPC_TYPES
from infermesh.gateway.protection import AGE_JITTER, CONNECTION_WINDOW
from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.fields import Headers
from infermesh.mesh.http2.frames import Code, ConnectionFault, Frame, Kind, Setting
from infermesh.mesh.http2.life import Life
from infermesh.mesh.http2.outgoing import Outgoing

_SAY: Final = b"this port speaks gRPC alone: expected POST with content-type application/grpc over HTTP/2\n"
_NOT_HTTP2: Final = (
    b"HTTP/1.1 400 Bad Request\r\ncontent-type: text/plain\r\nconnection: close\r\ncontent-length: %d\r\n\r\n%s"
    % (len(_SAY), _SAY)
)
_NOT_GRPC: Final = ((b":status", b"415"), (b"content-type", b"text/plain"), (b"content-length", b"%d" % len(_SAY)))
_MEANT: Final = 1.0
"""Seconds: a call that lived so long was meant."""
_CALL: Final = 2 << 10
"""Bytes that a call takes beside its request."""
_CHATTER: Final = 10_000
"""Frames that are no calls, between two looks."""
_SETTINGS: Final = 100
"""Frames that one of settings counts as: all calls are looked at for it."""


@dataclass
class Port:
    """What all connections of a port share."""

    methods: Mapping[bytes, Method]
    desk: Desk
    limits: ClientLimits
    room: int
    """Bytes of calls that may be kept: of answers that wait for their callers, of requests that wait to be read."""
    rng: Random = field(default_factory=Random)
    waiting: int = 0
    """Bytes of answers that are."""
    kept: int = 0
    """Bytes of requests that are, headers among them, with what calls themselves take."""
    leaving: bool = False

    def look(self, connections: "Iterable[DoorConnection]") -> None:
        """Cuts the calls of which most is kept, if there is no room for all."""
        if self.kept + self.waiting <= self.room:
            return
        calls = [call for each in connections for call in each.streams.values() if isinstance(call, DoorCall)]
        for call in sorted(calls, key=lambda call: call.weight, reverse=True):
            if self.kept + self.waiting <= self.room:
                return
            call.cut(Code.INTERNAL_ERROR)


class DoorConnection(Gathering):
    """A connection. `look` is called now and then."""

    stream_window, connection_window = WINDOW, CONNECTION_WINDOW

    def __init__(self, port: Port, among: "set[DoorConnection]") -> None:
        limits = port.limits
        super().__init__(among, Life(limits.ping_interval, limits.ping_timeout, limits.stall_timeout))
        self.limits = ((Setting.MAX_CONCURRENT_STREAMS, limits.max_streams),)
        self._port = port
        self._opened = self._busy = self._loop.time()
        self._until = self._opened + limits.max_connection_age * (1 + port.rng.random() * AGE_JITTER)
        self._fresh: list[DoorCall] = []
        self._later: list[Frame] = []
        self._stalled: dict[Outgoing, tuple[int, float]] = {}
        self._part_since: tuple[Frame | int, float] | None = None  # what has come of headers or a frame, and since when
        self._kept = self._owed = 0
        self._begun = self._resets = self._chatter = 0
        self._leaving = False
        self._goodbye: asyncio.TimerHandle | None = None
        self._last_call: int | None = None  # no later one is taken

    def greet(self) -> None:
        """Says what goes before all else; sends a client away who has come too late."""
        super().greet()
        if self._port.leaving:
            self.leave()

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all calls."""
        if self._goodbye is not None:
            self._goodbye.cancel()
        super().connection_lost(exc)

    def foreign(self, data: bytes) -> None:
        """Tells a client of HTTP/1 what is spoken here."""
        self.write(_NOT_HTTP2)
        self.close("it does not speak HTTP/2")

    # -- frames --------------------------------------------------------------------------------------------------------

    def act(self, found: Sequence[Frame]) -> None:
        """Acts on frames. Of many calls some are begun in the loop's next turn: others shall have theirs, too."""
        if self._later:
            self._later += found
            return
        most = self._begun + self._port.limits.calls_at_once
        for place, each in enumerate(found):
            if each.kind == frames.DATA:
                self._data(each)
            elif self._begun < most:
                self._other(each)
            else:
                self._later = [*found[place:]]
                self._pause()
                break
        fresh, self._fresh = self._fresh, []
        for call in fresh:
            call.watch()
        self._port.look(self._among)

    def _pause(self) -> None:
        if self._transport is not None:
            self._transport.pause_reading()
            self._loop.call_soon(self._resume)

    def _resume(self) -> None:
        if self._transport is None or self._transport.is_closing():
            return
        found, self._later = self._later, []
        try:
            self.act(found)
            self.settle()
        except ConnectionFault as fault:
            self.fault(fault)
            return
        if not self._later:
            self._transport.resume_reading()

    def _other(self, found: Frame) -> None:
        if found.kind in _IDLE_TALK:
            self._count_chatter(_SETTINGS if found.kind == Kind.SETTINGS else 1)
        super()._other(found)

    def _count_chatter(self, weight: int = 1) -> None:
        self._chatter += weight
        if self._chatter > _CHATTER:
            raise ConnectionFault.of(Code.ENHANCE_YOUR_CALM, f"{_CHATTER} frames came that were no calls")

    def _data(self, found: Frame) -> None:
        if self._block_of is not None or not found.stream:
            self._misplaced(found)
        size = len(found.payload)
        self._kept += size
        self._port.kept += size
        if self._kept > CONNECTION_WINDOW:
            raise ConnectionFault.of(
                Code.FLOW_CONTROL_ERROR, f"expected at most {CONNECTION_WINDOW} bytes before an update"
            )
        if not size and not found.flags & frames.END_STREAM:
            self._count_chatter()
        call = self.streams.get(found.stream)
        if call is not None:
            call.take(frames.content(found), size, bool(found.flags & frames.END_STREAM))
        else:
            self.consumed(size)

    def consumed(self, size: int) -> None:
        """So many bytes of what came are no longer kept."""
        self._port.kept -= size
        self._owed += size
        if self._owed >= CONNECTION_WINDOW // 2:
            self.write(frames.window_update(0, self._owed))
            self._kept -= self._owed
            self._owed = 0

    # -- calls ---------------------------------------------------------------------------------------------------------

    def called(self, number: int, fields: Headers, end: bool) -> None:
        """Takes a call."""
        if self._last_call is not None:
            return  # the client was told, and makes it elsewhere
        port = self._port
        self._begun += 1
        method = port.methods.get(fields.get(b":path", b""))
        call = DoorCall(port.desk, self, number, self.first_window, fields, method, self._loop.time())
        call.cost = _CALL + len(self._block)
        self.add(call)
        port.kept += call.cost
        if len(self.streams) > port.limits.max_streams:
            call.reset(Code.REFUSED_STREAM)
        elif fields.get(b"content-type", b"").partition(b";")[0] not in GRPC_TYPES or fields.get(b":method") != b"POST":
            call.send_headers(_NOT_GRPC)
            call.pour(_SAY)
            call.finish()
            call.reset(Code.NO_ERROR)
        elif call.begin(end):
            self._fresh.append(call)

    def given_up(self, began: float) -> None:
        """The caller has cancelled a call that began then. Closes the connection if that is all that it does."""
        if self._loop.time() - began > _MEANT:
            return
        self._resets += 1
        most = self._port.limits.max_resets
        if 2 * self._resets > max(most, self._begun):
            raise ConnectionFault.of(Code.ENHANCE_YOUR_CALM, "most calls were cancelled as soon as they were made")

    def waits(self, change: int) -> None:
        """So many bytes more wait to be sent."""
        self._port.waiting += change
        if change > 0:
            self._port.look(self._among)

    def forget(self, stream: Outgoing) -> None:
        """Drops a call that is over."""
        super().forget(stream)
        if isinstance(stream, DoorCall):
            self._port.kept -= stream.cost
        self._stalled.pop(stream, None)
        if self._last_call is not None and not self.streams:
            self.close("its calls are over, and it was told to go")

    # -- its end -------------------------------------------------------------------------------------------------------

    def leave(self) -> None:
        """Tells the client to go elsewhere; serves what it sends until it has heard that, and then what it has begun.

        Idempotent. Who has not said a word yet hears it when he has."""
        if not (self._leaving or self._preface):
            self._leaving = True
            self.write(frames.goaway(frames.WINDOW, Code.NO_ERROR))
            self._goodbye = self._loop.call_later(DRAIN_TIMEOUT, self._leave_for_good)

    def _leave_for_good(self) -> None:
        self._last_call = self._last
        self.write(frames.goaway(self._last, Code.NO_ERROR))
        if not self.streams:
            self.close("it was told to go")

    def look(self, now: float) -> None:
        """Ends what stands still."""
        limits = self._port.limits
        self._chatter = 0
        part = self._block_of if self._block_of is not None else self._splitter.unfinished
        if part is None:
            self._part_since = None
        elif self._part_since is None or self._part_since[0] != part:
            self._part_since = (part, now)
        begun = self._opened if self._preface else self._part_since[1] if self._part_since else now
        if now - begun > limits.header_timeout:
            self.abort(f"its first bytes, or a request's headers, took more than {limits.header_timeout} s")
            return
        if self.streams:
            self._busy = now
        if now - self._busy > limits.idle_timeout or (limits.max_connection_age and now > self._until):
            self.leave()
        self._look_at_readers(now)

    def _look_at_readers(self, now: float) -> None:
        """Cuts the calls whose callers take nothing of what they were sent."""
        before, self._stalled = self._stalled, {}
        for call in [call for call in self._held if call.waiting]:
            moved, since = before.get(call, (0, now))
            if call.moved > moved:
                moved, since = call.moved, now
            if now - since > self._port.limits.stall_timeout and isinstance(call, DoorCall):
                call.cut(Code.INTERNAL_ERROR)
            else:
                self._stalled[call] = moved, since


_IDLE_TALK: Final = frozenset({Kind.PING, Kind.SETTINGS, Kind.PRIORITY, Kind.CONTINUATION, Kind.RST_STREAM})
