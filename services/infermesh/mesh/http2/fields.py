"""Header blocks to fields (RFC 7541). Both ends of a connection keep a table of what was said on it."""

from collections.abc import Iterable
from typing import Any, Final

import hpack

from infermesh.mesh.http2.frames import Code, ConnectionFault

Field = tuple[bytes, bytes]

_MOST: Final = 64 << 10
"""Bytes of a block, and of the fields that it stands for."""
_KEPT: Final = 64
_SHORT: Final = 1 << 10


class Headers(dict[bytes, bytes]):
    """Fields by name; of a name that comes twice the last counts. Not to be changed: it may be given out again."""

    __slots__ = ("pairs",)

    def __init__(self, pairs: Iterable[Field]) -> None:
        self.pairs = tuple((bytes(name), bytes(value)) for name, value in pairs)
        """All of them, in order."""
        super().__init__(self.pairs)


class FieldReader:
    """Reads the blocks of one connection, in their order.

    Clients say the same again and again, in a few bytes that point into the table. So a block that left the table as it
    was is not read again until another one changes it.
    """

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=_MOST)
        self._known: dict[bytes, Headers] = {}

    def read(self, block: bytes) -> Headers:
        """Returns the fields. Raises ConnectionFault if they are too many, or make no sense."""
        known = self._known.get(block)
        if known is not None:
            return known
        if len(block) > _MOST:
            raise ConnectionFault.of(Code.ENHANCE_YOUR_CALM, f"expected headers of at most {_MOST} bytes")
        before = self._table()
        try:
            fields = Headers(self._decoder.decode(block, raw=True))
        except hpack.HPACKError as error:
            raise ConnectionFault.of(Code.COMPRESSION_ERROR, f"headers can't be read: {error}") from error
        changed = self._table() != before
        if changed or len(self._known) >= _KEPT:
            self._known.clear()
        if not changed and len(block) <= _SHORT:
            self._known[block] = fields
        return fields

    def _table(self) -> tuple[int, list[Any]]:
        table = self._decoder.header_table
        return table.maxsize, list(table.dynamic_entries)
