"""Between calls and the runner: joins the inputs of a batch, and cuts its outputs into the calls' responses."""

from collections.abc import Sequence

import numpy as np

from infermesh.datatypes import ITEM_SIZES
from infermesh.errors import Internal
from infermesh.mesh.parcel import Pieces
from infermesh.worker.calls import Call
from infermesh.worker.classification import top_classes
from infermesh.worker.contents import split_bytes
from infermesh.worker.oip_codec import Codec, raw_tag
from infermesh.worker.runner import Buffer, Output

Piece = tuple[str, str, tuple[int, ...], bytes | memoryview]


def join(codec: Codec, batch: Sequence[Call]) -> list[Buffer]:
    """Returns the inputs of a batch: every call's buffers, one after the other. Copies nothing."""
    if len(batch) == 1:
        request = batch[0].request
        return [
            Buffer(rule.name, rule.datatype, request.shapes[rule.at], [request.buffers[rule.at]])
            for rule in codec.inputs
        ]
    rows = sum(call.rows for call in batch)
    first = batch[0].request.shapes
    return [
        Buffer(
            rule.name,
            rule.datatype,
            (rows, *first[rule.at][1:]),
            [call.request.buffers[rule.at] for call in batch],
        )
        for rule in codec.inputs
    ]


def outputs_of(codec: Codec, batch: Sequence[Call]) -> tuple[str, ...]:
    """Returns the outputs that some call of the batch wants; empty for all of them."""
    wanted: set[str] = set()
    for call in batch:
        if not call.request.wanted:
            return ()
        wanted.update(output.name for output in call.request.wanted)
    return () if len(wanted) == len(codec.outputs) else tuple(name for name in codec.outputs if name in wanted)


def cut(codec: Codec, batch: Sequence[Call], outputs: Sequence[Output]) -> list[list[Piece]]:
    """Returns for every call its rows of every output; views, not copies.

    Raises Internal if an output has not the rows of the batch: then nothing says which row is whose.
    """
    if len(batch) == 1 and (not codec.max_rows or all(out.shape and out.shape[0] == batch[0].rows for out in outputs)):
        return [[(out.name, out.datatype, out.shape, out.data) for out in outputs]]
    counts = [call.rows for call in batch]
    rows = sum(counts)
    pieces: list[list[Piece]] = [[] for _ in batch]
    for out in outputs:
        if not out.shape or out.shape[0] != rows:
            raise Internal(f"output '{out.name}': expected {rows} rows, got shape {list(out.shape)}")
        tail = out.shape[1:]
        for mine, count, data in zip(pieces, counts, _split(out, counts, rows), strict=True):
            mine.append((out.name, out.datatype, (count, *tail), data))
    return pieces


def _split(out: Output, counts: list[int], rows: int) -> list[memoryview]:
    if len(counts) == 1:
        return [out.data]
    if out.datatype not in ITEM_SIZES:
        tail = 1
        for size in out.shape[1:]:
            tail *= size
        return split_bytes(out.data, [count * tail for count in counts])
    row_size, data = len(out.data) // rows, out.data
    parts, at = [], 0
    for count in counts:
        end = at + count * row_size
        parts.append(data[at:end])
        at = end
    return parts


def unstack(outputs: Sequence[Output], count: int) -> list[list[Piece]]:
    """Returns what each of `count` sequences gave, of outputs that are stacked along their first dimension; views."""
    pieces: list[list[Piece]] = [[] for _ in range(count)]
    ones = [1] * count
    for out in outputs:
        shape = out.shape[1:]
        for mine, data in zip(pieces, _split(out, ones, count), strict=True):
            mine.append((out.name, out.datatype, shape, data))
    return pieces


def tails(codec: Codec, outputs: Sequence[Output], count: int) -> list[bytes]:
    """Returns the responses of `count` sequences without their prefix (`Codec.prefix`), with all of the outputs.

    Where elements have a fixed size the responses have one length, and are put together at once for all sequences.
    """
    headers = b"".join(codec.header(out.name, out.datatype, out.shape[1:]) for out in outputs)
    if any(out.datatype not in ITEM_SIZES for out in outputs):
        rows = unstack(outputs, count)
        return [
            b"".join((headers, *(part for _, _, _, raw in row for part in (raw_tag(len(raw)), raw)))) for row in rows
        ]
    row, columns = bytearray(headers), []
    for out in outputs:
        raw = np.frombuffer(out.data, np.uint8).reshape(count, -1)
        row += raw_tag(raw.shape[1])
        columns.append((len(row), raw))
        row += bytes(raw.shape[1])
    filled = row * count
    table, size = np.frombuffer(filled, np.uint8).reshape(count, -1), len(row)
    for at, raw in columns:
        table[:, at : at + raw.shape[1]] = raw
    data = bytes(filled)
    return [data[at : at + size] for at in range(0, len(data), size)]


def respond(codec: Codec, call: Call, pieces: list[Piece]) -> bytes | Pieces:
    """Returns the serialised response of a call: its wanted outputs in the wanted order."""
    wanted = call.request.wanted
    if wanted:
        by_name = {piece[0]: piece for piece in pieces}
        pieces = [
            top_classes(*by_name[output.name], output.classes, codec.max_rows > 0)
            if output.classes
            else by_name[output.name]
            for output in wanted
        ]
    return codec.respond(call.request, pieces, call.streamed)
