"""Frames between a worker and its runner processes: length of the header, the header, then raw buffers.

Used by both ends. The words inside are in `protos/infermesh/v1/runner.proto`. Nothing is ever pickled.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from infermesh.v1 import runner_pb2

LENGTH: Final = struct.Struct("<I")
Bytes = bytes | bytearray | memoryview


@dataclass(slots=True)
class Buffer:
    """One input of a batch: the raw bytes of its requests, one part after the other (row-major, so they join)."""

    name: str
    datatype: str
    shape: Sequence[int]
    """Of the whole batch."""
    parts: Sequence[Bytes]


@dataclass(slots=True)
class Output:
    """One output of a batch, in raw form."""

    name: str
    datatype: str
    shape: tuple[int, ...]
    data: memoryview


class Message(Protocol):
    """What a header can be."""

    def SerializeToString(self) -> bytes: ...


def head(message: Message) -> bytes:
    """Returns the header with its length in front."""
    data = message.SerializeToString()
    return LENGTH.pack(len(data)) + data


def describe(buffer: Buffer) -> runner_pb2.BufferSpec:
    """Returns the description of a buffer that follows the header."""
    size = sum(len(part) for part in buffer.parts)
    return runner_pb2.BufferSpec(name=buffer.name, datatype=buffer.datatype, shape=buffer.shape, size_bytes=size)


def split(specs: Sequence[runner_pb2.BufferSpec], payload: memoryview) -> list[memoryview]:
    """Returns the part of the payload that each description stands for."""
    parts, at = [], 0
    for spec in specs:
        end = at + spec.size_bytes
        parts.append(payload[at:end])
        at = end
    return parts


def payload_size(specs: Sequence[runner_pb2.BufferSpec]) -> int:
    """Returns how many bytes follow a header with these descriptions."""
    return sum(spec.size_bytes for spec in specs)
