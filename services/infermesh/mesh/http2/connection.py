"""One HTTP/2 connection, either end of it: frames to streams and back, windows, settings, pings (RFC 9113)."""

import asyncio
from collections.abc import Callable, Sequence
from typing import Final, NoReturn, cast

from infermesh.mesh.http2 import frames
from infermesh.mesh.http2.fields import FieldReader, Headers
from infermesh.mesh.http2.frames import Code, ConnectionFault, Frame, Kind, Setting, Splitter
from infermesh.mesh.http2.life import Life, Pulse
from infermesh.mesh.http2.outgoing import Outgoing
from infermesh.mesh.wire import Bytes

_FEW: Final = 2**30
"""Bytes received until the other end is told to go on."""
_BUFFERED: Final = 256 << 10
"""Bytes that may wait in this process for the system to take them; then messages wait."""
_MOST_HEADERS: Final = 64 << 10
_SETTINGS: Final = ((Setting.ENABLE_PUSH, 0), (Setting.MAX_FRAME_SIZE, frames.MOST_FRAME_SIZE))


class Connection(asyncio.Protocol):
    """Base of both ends. Whoever reads here does so at once, if not said otherwise: the windows that it gives are as
    large as can be."""

    greeting = b""
    """What goes before the first frame."""
    stream_window = connection_window = frames.WINDOW
    """Bytes that the other end may send, of one stream and of all, until it is told to go on."""
    limits: tuple[tuple[Setting, int], ...] = ()
    """More settings."""

    def __init__(self, life: Life) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._splitter = Splitter()
        self._fields = FieldReader()
        self._block = b""
        self._block_of: Frame | None = None
        self._held: dict[Outgoing, None] = {}
        self._grown = False  # there is room for streams that wait
        self.first_window = frames.FIRST_WINDOW
        self._unread = 0
        self._last = 0  # the last stream that the other end has begun
        self._pulse = Pulse(life, self._loop, self._ask, self.abort)
        self._over: str | None = None  # why the connection has ended
        self.streams: dict[int, Outgoing] = {}
        self.window = frames.FIRST_WINDOW
        """Bytes that the other end still takes, of all streams."""
        self.frame_size = frames.FRAME_SIZE
        self.paused = False

    # -- the transport -------------------------------------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begins."""
        self._transport = made = cast(asyncio.Transport, transport)  # uvloop's is none by inheritance
        made.set_write_buffer_limits(_BUFFERED)
        self._pulse.begin(made.get_extra_info("socket"))

    def greet(self) -> None:
        """Says what goes before all else."""
        update = frames.window_update(0, self.connection_window - frames.FIRST_WINDOW)
        settings = (*_SETTINGS, (Setting.INITIAL_WINDOW_SIZE, self.stream_window), *self.limits)
        self.write(self.greeting + frames.settings(settings) + update)

    def data_received(self, data: bytes) -> None:
        """Acts on frames; unknown ones are passed over."""
        self._pulse.hear()
        try:
            self.act(self._splitter.feed(data))
            self.settle()
        except ConnectionFault as fault:
            self.fault(fault)

    def settle(self) -> None:
        """Has streams go on for which there is room now."""
        if self._grown:
            self._grown = False
            self._release()

    def act(self, found: Sequence[Frame]) -> None:
        """Acts on frames. Raises ConnectionFault."""
        for each in found:
            if each.kind == frames.DATA:
                self._data(each)
            else:
                self._other(each)

    def fault(self, fault: ConnectionFault) -> None:
        """Ends a connection whose other end has broken the rules."""
        self.write(frames.goaway(self._last, fault.code))
        self.close(fault.message)

    def connection_lost(self, exc: Exception | None) -> None:
        """Ends all streams."""
        self._end(str(exc) if exc is not None else "the connection was closed")

    def pause_writing(self) -> None:
        """The system takes no more for now."""
        self.paused = True

    def resume_writing(self) -> None:
        """It does again."""
        self.paused = False
        self._release()

    def close(self, why: str = "the connection was closed") -> None:
        """Closes the connection once what was written is sent; streams that are open are lost. Idempotent."""
        if self._transport is not None:
            self._transport.close()
        self._end(why)

    def abort(self, why: str) -> None:
        """Closes the connection at once."""
        if self._transport is not None:
            self._transport.abort()
        self._end(why)

    def _end(self, why: str) -> None:
        if self._over is None:
            self._over = why
        self._pulse.stop()
        for stream in [*self.streams.values()]:
            stream.lose(why)

    # -- what streams need, see `outgoing.Line` ------------------------------------------------------------------------

    def write(self, *parts: Bytes) -> None:
        """Sends bytes."""
        transport = self._transport
        if transport is None or transport.is_closing():
            return
        if len(parts) == 1:
            transport.write(parts[0])
        else:
            transport.writelines(parts)

    def waits(self, change: int) -> None:
        """So many bytes more wait to be sent. Of no interest where both ends are ours."""

    def hold(self, stream: Outgoing) -> None:
        """Has the stream go on when there is room."""
        self._held[stream] = None

    def forget(self, stream: Outgoing) -> None:
        """Drops a stream that is over."""
        self.streams.pop(stream.number, None)
        self._held.pop(stream, None)

    def _release(self) -> None:
        held, self._held = self._held, {}
        for stream in held:
            stream.go_on()

    # -- frames --------------------------------------------------------------------------------------------------------

    def _data(self, found: Frame) -> None:
        if self._block_of is not None or not found.stream:
            self._misplaced(found)
        size = len(found.payload)
        self._unread += size
        if self._unread > _FEW:
            self.write(frames.window_update(0, self._unread))
            self._unread = 0
        stream = self.streams.get(found.stream)
        if stream is not None:
            stream.take(frames.content(found), size, bool(found.flags & frames.END_STREAM))

    def _other(self, found: Frame) -> None:
        if self._block_of is not None and found.kind != Kind.CONTINUATION:
            self._misplaced(found)
        act = _ACTS.get(found.kind)
        if act is not None:
            act(self, found)

    def _misplaced(self, found: Frame) -> NoReturn:
        """Refuses what may not come here, or not now (RFC 9113, 4.3 and 6)."""
        of = "no stream" if self._block_of is None else "another kind, within a header block"
        raise ConnectionFault.of(Code.PROTOCOL_ERROR, f"a frame of {of}: kind {found.kind}")

    def _headers(self, found: Frame) -> None:
        if not found.stream:
            self._misplaced(found)
        self._block_of, self._block = found, bytes(frames.content(found))
        self._look_whole(found)

    def _continuation(self, found: Frame) -> None:
        if self._block_of is None or self._block_of.stream != found.stream:
            raise ConnectionFault.of(Code.PROTOCOL_ERROR, "expected no CONTINUATION")
        self._block += found.payload
        self._look_whole(found)

    def _look_whole(self, found: Frame) -> None:
        if len(self._block) > _MOST_HEADERS:
            raise ConnectionFault.of(Code.ENHANCE_YOUR_CALM, f"expected headers of at most {_MOST_HEADERS} bytes")
        first = self._block_of
        if not found.flags & frames.END_HEADERS or first is None:
            return
        self._block_of = None
        fields = self._fields.read(self._block)
        end = bool(first.flags & frames.END_STREAM)
        stream = self.streams.get(first.stream)
        if stream is not None:
            stream.take_headers(fields, end)
        else:
            self.began(first.stream, fields, end)

    def began(self, number: int, fields: Headers, end: bool) -> None:
        """A block of headers has come for a stream that is not there. A client need not care: it has left that one."""

    def leaves(self, last: int) -> None:
        """The other end takes no new streams, and looks at none of ours after `last`."""

    def add(self, stream: Outgoing) -> None:
        """Takes a new stream; if the connection has ended meanwhile it is lost in the loop's next turn."""
        self.streams[stream.number] = stream
        if self._over is not None:
            self._loop.call_soon(stream.lose, self._over)

    def _reset(self, found: Frame) -> None:
        stream, code = self.streams.get(found.stream), frames.number(found.payload, "RST_STREAM")
        if stream is not None:
            stream.take_reset(code)

    def _settings(self, found: Frame) -> None:
        if found.flags & frames.ACK:
            return
        values = frames.read_settings(found.payload)
        self.frame_size = values.get(Setting.MAX_FRAME_SIZE, self.frame_size)
        grown = values.get(Setting.INITIAL_WINDOW_SIZE, self.first_window) - self.first_window
        self.first_window += grown
        for stream in self.streams.values():
            stream.window += grown
        self.write(frames.frame(Kind.SETTINGS, frames.ACK, 0))
        self._grown = True

    def _ask(self) -> None:
        self.write(frames.frame(Kind.PING, 0, 0, bytes(8)))

    def _ping(self, found: Frame) -> None:
        if not found.flags & frames.ACK:
            self.write(frames.frame(Kind.PING, frames.ACK, 0, bytes(found.payload)))

    def _go_away(self, found: Frame) -> None:
        self.leaves(frames.number(found.payload, "GOAWAY") & frames.WINDOW)

    def _update(self, found: Frame) -> None:
        grown = frames.number(found.payload, "WINDOW_UPDATE") & frames.WINDOW
        if not grown:
            raise ConnectionFault.of(Code.PROTOCOL_ERROR, "expected a window to be made larger by 1 or more, got 0")
        of = self if found.stream == 0 else self.streams.get(found.stream)
        if of is not None:
            of.window += grown
            if of.window > frames.WINDOW:
                raise ConnectionFault.of(Code.FLOW_CONTROL_ERROR, "a window was made larger than it can be")
        if isinstance(of, Outgoing) and of in self._held:
            del self._held[of]
            of.go_on()
        elif of is self:
            self._grown |= self.window <= grown  # else none has waited for it


_ACTS: Final[dict[int, Callable[[Connection, Frame], None]]] = {
    Kind.HEADERS: Connection._headers,
    Kind.CONTINUATION: Connection._continuation,
    Kind.RST_STREAM: Connection._reset,
    Kind.SETTINGS: Connection._settings,
    Kind.PING: Connection._ping,
    Kind.GOAWAY: Connection._go_away,
    Kind.WINDOW_UPDATE: Connection._update,
}
