"""Header blocks to fields (RFC 7541). Both ends of a connection keep a table of what was said on it."""

from collections.abc import Iterable
from typing import Any, Final

import hpack

from infermesh.mesh.http2.frames import Code, ConnectionFault

Field = tuple[bytes, bytes]

_MOST: Final = 64 << 10
"""Bytes of a block, and of the fields that it stands for."""
_OVERHEAD: Final = 32
"""Bytes that a field counts as beside its own (RFC 7541, 4.1)."""
_INDEXED: Final = 0x80
_CHANGES: Final = 0x60
"""Bits of what is kept in the table, or changes its size."""
_PACKED: Final = 0x80
_NOWHERE: Final = 1 << 30
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
    was is not read again until another one changes it; and one that has, beside such bytes, only fields which are said
    plainly and not kept (a trace context, a time that is left) is read here, at a tenth of what `hpack` takes for it.
    """

    def __init__(self) -> None:
        self._decoder = hpack.Decoder(max_header_list_size=_MOST)
        self._known: dict[bytes, Headers] = {}
        self._entries: dict[int, Field] = {}

    def read(self, block: bytes) -> Headers:
        """Returns the fields. Raises ConnectionFault if they are too many, or make no sense."""
        known = self._known.get(block)
        if known is not None:
            return known
        if len(block) > _MOST:
            raise ConnectionFault.of(Code.ENHANCE_YOUR_CALM, f"expected headers of at most {_MOST} bytes")
        pairs = self._plain(block)
        if pairs is not None:
            return self._keep(block, Headers(pairs))
        before = self._table()
        try:
            fields = Headers(self._decoder.decode(block, raw=True))
        except hpack.HPACKError as error:
            raise ConnectionFault.of(Code.COMPRESSION_ERROR, f"headers can't be read: {error}") from error
        if self._table() == before:
            return self._keep(block, fields)
        self._known.clear()
        self._entries.clear()
        return fields

    def _keep(self, block: bytes, fields: Headers) -> Headers:
        if len(self._known) >= _KEPT:
            self._known.clear()
        if len(block) <= _SHORT:
            self._known[block] = fields
        return fields

    def _table(self) -> tuple[int, list[Any]]:
        table = self._decoder.header_table
        return table.maxsize, list(table.dynamic_entries)

    def _plain(self, block: bytes) -> list[Field] | None:
        """Returns the fields of a block that is as simple as most; None if it is not, or makes no sense."""
        pairs: list[Field] = []
        at, end, size = 0, len(block), 0
        while at < end:
            first = block[at]
            at += 1
            entry: Field | None = None
            if first & _INDEXED:
                entry = self._entry(first & 0x7F, 0x7F)
            elif not first & _CHANGES:
                entry, at = self._said(block, first & 0x0F, at)
            if entry is None or at > end:
                return None
            pairs.append(entry)
            size += _OVERHEAD + len(entry[0]) + len(entry[1])
            if size > _MOST:
                return None
        return pairs

    def _said(self, block: bytes, index: int, at: int) -> tuple[Field | None, int]:
        """Returns a field that is not kept, whose name may be that of an entry, and where it ends."""
        if index:
            named = self._entry(index, 0x0F)
            if named is None:
                return None, at
            name = named[0]
        else:
            name, at = _string(block, at)
        value, at = _string(block, at)
        return (name, value), at

    def _entry(self, index: int, longer: int) -> Field | None:
        """Returns an entry of the table; None if there is none, or `longer` says that the index goes on."""
        entry = self._entries.get(index)
        if entry is None and index != longer:
            try:
                name, value = self._decoder.header_table.get_by_index(index)
            except hpack.InvalidTableIndex:
                return None
            entry = self._entries[index] = (bytes(name), bytes(value))
        return entry


def _string(block: bytes, at: int) -> tuple[bytes, int]:
    """Returns a string that is short and not compressed, and where it ends: behind the block's end if it is neither."""
    size = block[at] if at < len(block) else _PACKED
    end = at + 1 + size
    return block[at + 1 : end], end if size < 0x7F else _NOWHERE
