"""What the servicers read from many kinds of requests: idempotency keys and update masks."""

import uuid
from typing import Protocol

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from infermesh.registry.catalog.base import Key
from infermesh.registry.rules.digests import request_digest
from infermesh.registry.rules.fields import bad


class Masked(Protocol):
    """A request with an update mask."""

    update_mask: FieldMask

    def HasField(self, field_name: str) -> bool:
        """See google.protobuf.message.Message."""


def key_of(request: Message) -> Key | None:
    """Returns the idempotency key of a create; None without a request_id. Raises InvalidInput if that is no UUID."""
    request_id: str = request.request_id  # type: ignore[attr-defined]
    if not request_id:
        return None
    try:
        canonical = str(uuid.UUID(request_id))
    except ValueError as error:
        raise bad("request_id", "a UUID", request_id) from error
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("request_id")  # the same UUID may be written in several ways
    return Key(canonical, request_digest(bare))


def mask_of(request: Masked) -> FieldMask | None:
    """Returns the update mask of a request; None if it has none."""
    return request.update_mask if request.HasField("update_mask") else None
