"""Prints results: tables for people, JSON for machines. Used by the command modules."""

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.message import Message
from rich.console import Console
from rich.table import Table
from rich.text import Text

from infermesh.cli.options import Format


@dataclass(frozen=True)
class Column:
    """One column of a table: its title and what it shows of a message."""

    title: str
    value: Callable[[Any], str]
    right: bool = False


def to_json(message: Message) -> dict[str, Any]:
    """Returns a message for machines: proto field names, all fields present, 64-bit numbers as numbers."""
    plain: dict[str, Any] = MessageToDict(
        message, preserving_proto_field_name=True, always_print_fields_with_no_presence=True
    )
    return {key: _numbers(message.DESCRIPTOR.fields_by_name[key], value) for key, value in plain.items()}


def _numbers(field: Any, value: Any) -> Any:
    """Undoes proto-JSON's 64-bit integers as text, which scripts do not expect."""
    if field.message_type is not None:
        if field.message_type.GetOptions().map_entry:
            inner = field.message_type.fields_by_name["value"]
            return {key: _numbers(inner, item) for key, item in value.items()}
        if isinstance(value, list):
            return [_nested(field, item) for item in value]
        return _nested(field, value)
    if field.cpp_type in (field.CPPTYPE_INT64, field.CPPTYPE_UINT64):
        return [int(item) for item in value] if isinstance(value, list) else int(value)
    return value


def _nested(field: Any, value: Any) -> Any:
    if not isinstance(value, dict):  # a Timestamp or Duration is text
        return value
    fields = field.message_type.fields_by_name
    return {key: _numbers(fields[key], item) if key in fields else item for key, item in value.items()}


def print_json(value: object) -> None:
    """Prints a value as JSON on standard output."""
    json.dump(value, sys.stdout, indent=2, ensure_ascii=False, default=str)
    sys.stdout.write("\n")


def show(messages: Iterable[Message], columns: Sequence[Column], output: Format, *, empty: str = "none") -> None:
    """Prints messages as a table with `columns`, or all their fields as JSON."""
    listed = list(messages)
    if output is Format.json:
        print_json([to_json(message) for message in listed])
    elif not listed:
        Console(stderr=True).print(empty, style="dim")
    else:
        print_table(table(listed, columns))


def show_one(message: Message, rows: Mapping[str, str], output: Format) -> None:
    """Prints one message: `rows` for people, or all its fields as JSON."""
    if output is Format.json:
        print_json(to_json(message))
        return
    grid = Table.grid(padding=(0, 2))
    for title, value in rows.items():
        grid.add_row(Text(title, "bold"), Text(value))
    print_table(grid)


def table(messages: Iterable[Any], columns: Sequence[Column]) -> Table:
    """Returns a table of messages."""
    result = Table(box=None, pad_edge=False, header_style="bold", show_edge=False)
    for column in columns:
        result.add_column(column.title, justify="right" if column.right else "left", overflow="fold")
    for message in messages:
        result.add_row(*(Text(column.value(message)) for column in columns))
    return result


def print_table(renderable: Table) -> None:
    """Prints a table; in a pipe without cutting it to a terminal's width."""
    console = Console() if sys.stdout.isatty() else Console(width=240)
    console.print(renderable)


def last(name: str) -> str:
    """Returns the id at the end of a resource name."""
    return name.rpartition("/")[2]


def when(timestamp: Any) -> str:
    """Returns a protobuf timestamp as local time; a dash if it is not set."""
    if not timestamp.seconds:
        return "-"
    moment = datetime.fromtimestamp(timestamp.seconds, UTC).astimezone()
    return f"{moment:%Y-%m-%d %H:%M:%S}"


def bytes_text(count: float) -> str:
    """Returns a size as people write it: `1.4 GiB`."""
    for unit in ("B", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def signature_text(specs: Iterable[Any]) -> str:
    """Returns tensors as `image FP32[-1,4]`."""
    return ", ".join(f"{s.name} {s.datatype}[{','.join(map(str, s.shape))}]" for s in specs)
