"""The messages of `grpc.testing.TestService`, built in code in a pool of their own: no generated file, no clash."""

from typing import Any, Final

from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

_F: Final = descriptor_pb2.FieldDescriptorProto
_FIELDS: Final[dict[str, tuple[tuple[str, int, int, str], ...]]] = {
    "Empty": (),
    "Payload": (("type", 1, _F.TYPE_INT32, ""), ("body", 2, _F.TYPE_BYTES, "")),
    "EchoStatus": (("code", 1, _F.TYPE_INT32, ""), ("message", 2, _F.TYPE_STRING, "")),
    "SimpleRequest": (
        ("response_size", 2, _F.TYPE_INT32, ""),
        ("payload", 3, _F.TYPE_MESSAGE, "Payload"),
        ("response_status", 7, _F.TYPE_MESSAGE, "EchoStatus"),
    ),
    "SimpleResponse": (("payload", 1, _F.TYPE_MESSAGE, "Payload"),),
    "StreamingInputCallRequest": (("payload", 1, _F.TYPE_MESSAGE, "Payload"),),
    "StreamingInputCallResponse": (("aggregated_payload_size", 1, _F.TYPE_INT32, ""),),
    "ResponseParameters": (("size", 1, _F.TYPE_INT32, ""), ("interval_us", 2, _F.TYPE_INT32, "")),
    "StreamingOutputCallRequest": (
        ("response_parameters", 2, _F.TYPE_MESSAGE, "*ResponseParameters"),
        ("payload", 3, _F.TYPE_MESSAGE, "Payload"),
        ("response_status", 7, _F.TYPE_MESSAGE, "EchoStatus"),
    ),
    "StreamingOutputCallResponse": (("payload", 1, _F.TYPE_MESSAGE, "Payload"),),
}


def _file() -> descriptor_pb2.FileDescriptorProto:
    file = descriptor_pb2.FileDescriptorProto(name="interop.proto", package="interop", syntax="proto3")
    for name, fields in _FIELDS.items():
        message = file.message_type.add(name=name)
        for field, number, kind, of in fields:
            label = _F.LABEL_REPEATED if of.startswith("*") else _F.LABEL_OPTIONAL
            added = message.field.add(name=field, number=number, type=kind, label=label)
            if of:
                added.type_name = ".interop." + of.lstrip("*")
    return file


_POOL: Final = descriptor_pool.DescriptorPool()
_POOL.Add(_file())


def message(name: str) -> Any:
    """Returns the class of a message."""
    return message_factory.GetMessageClass(_POOL.FindMessageTypeByName(f"interop.{name}"))
