"""Frames between a worker and its runner processes: length of the header, the header, then raw buffers.

Used by both ends. The words inside are in `protos/infermesh/v1/runner.proto`. Nothing is ever pickled.
"""

import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from google.rpc import error_details_pb2, status_pb2

from infermesh.errors import InvalidInput, LoadFailed, MeshError, ModelFailed
from infermesh.v1 import runner_pb2

LENGTH: Final = struct.Struct("<I")
DOMAIN: Final = "infermesh"
Bytes = bytes | bytearray | memoryview

_CODES: Final = {InvalidInput: 3, LoadFailed: 9, ModelFailed: 13}


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

    def SerializeToString(self) -> bytes:
        """Returns the encoded message."""


def head(message: Message) -> bytes:
    """Returns the header with its length in front."""
    data = message.SerializeToString()
    return LENGTH.pack(len(data)) + data


def describe(buffer: Buffer) -> runner_pb2.BufferSpec:
    """Returns the description of a buffer that follows the header."""
    size = sum(map(len, buffer.parts))
    return runner_pb2.BufferSpec(name=buffer.name, datatype=buffer.datatype, shape=buffer.shape, size_bytes=size)


def describe_output(output: Output) -> runner_pb2.BufferSpec:
    """Returns the description of an output that follows the header."""
    return runner_pb2.BufferSpec(
        name=output.name, datatype=output.datatype, shape=output.shape, size_bytes=len(output.data)
    )


def split(specs: Iterable[runner_pb2.BufferSpec], payload: memoryview) -> list[memoryview]:
    """Returns the part of the payload that each description stands for."""
    parts, at = [], 0
    for spec in specs:
        end = at + spec.size_bytes
        parts.append(payload[at:end])
        at = end
    return parts


def payload_size(specs: Iterable[runner_pb2.BufferSpec]) -> int:
    """Returns how many bytes follow a header with these descriptions."""
    return sum(spec.size_bytes for spec in specs)


def following(reply: runner_pb2.RunnerReply) -> Sequence[runner_pb2.BufferSpec]:
    """Returns the descriptions of the buffers that follow a reply, in order."""
    return reply.outputs or [spec for emission in reply.emissions for spec in emission.outputs]


def encode_error(error: MeshError) -> status_pb2.Status:
    """Returns an error as it travels from a runner; `mesh/status.from_status` rebuilds it in the worker.

    A copy of the table there in three lines, because a runner must not pay for importing grpc.
    """
    code = next((code for cls, code in _CODES.items() if isinstance(error, cls)), 13)
    status = status_pb2.Status(code=code, message=error.message)
    info = error_details_pb2.ErrorInfo(reason=error.reason, domain=DOMAIN, metadata=error.metadata)
    info.metadata["class"] = type(error).__name__
    status.details.add().Pack(info)
    if error.violations:
        bad = error_details_pb2.BadRequest()
        for field, description in error.violations:
            bad.field_violations.add(field=field, description=description)
        status.details.add().Pack(bad)
    return status
