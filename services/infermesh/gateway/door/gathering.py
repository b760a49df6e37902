"""A connection that sends together what is said on it within a turn of the event loop. Base of `connection`."""

from typing import Any, Final

from infermesh.mesh.http2.life import Life
from infermesh.mesh.http2.server import Accepted
from infermesh.mesh.wire import Bytes

_SMALL: Final = 16 << 10
"""Bytes up to which something waits for company: of more, a copy costs as much as a system call."""
_MUCH: Final = 256 << 10
"""Bytes that wait at most."""


class Gathering(Accepted):
    """Each write is a system call, which costs more than a token; what many calls say at once leaves in one."""

    def __init__(self, among: set[Any], life: Life) -> None:
        super().__init__(among, life)
        self._gathered: list[Bytes] = []
        self._size = 0

    def write(self, *parts: Bytes) -> None:
        """Sends bytes: at once if nobody else may have something to say, else in the loop's next turn."""
        size = len(parts[0]) if len(parts) == 1 else sum(map(len, parts))
        if not self._gathered:
            if len(self.streams) <= 1 or size > _SMALL:
                super().write(*parts)
                return
            self._loop.call_soon(self._flush)
        self._gathered += parts
        self._size += size
        if size > _SMALL or self._size > _MUCH:
            self._flush()

    def close(self, why: str = "the connection was closed") -> None:
        """Closes the connection once what was written is sent. Idempotent."""
        self._flush()
        super().close(why)

    def _flush(self) -> None:
        gathered, self._gathered = self._gathered, []
        if not gathered:
            return
        if self._size <= _MUCH:
            super().write(b"".join(gathered))
        else:
            super().write(*gathered)
        self._size = 0
