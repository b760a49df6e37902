"""What a model may look like."""

import string

from google.protobuf.field_mask_pb2 import FieldMask

from infermesh.registry.rules.fields import bad, check_labels, masked
from infermesh.v1.model_pb2 import Model

CHANGEABLE = ("description", "labels")

_DESCRIPTION_MAX = 4096
_ID_CHARACTERS = frozenset(string.ascii_lowercase + string.digits + "-_.")


def check_model(model: Model) -> None:
    """Raises InvalidInput if description or labels are over their limits."""
    if len(model.description) > _DESCRIPTION_MAX:
        raise bad("model.description", f"at most {_DESCRIPTION_MAX} characters", len(model.description))
    if "\0" in model.description:
        raise bad("model.description", "text without NUL", model.description)
    check_labels("model.labels", model.labels)


def check_prefix(prefix: str) -> None:
    """Raises InvalidInput if no id can begin so."""
    if not set(prefix) <= _ID_CHARACTERS or len(prefix) > 63:
        raise bad("id_prefix", "the beginning of a model id", prefix)


def updated(current: Model, wanted: Model, mask: FieldMask | None) -> Model:
    """Returns `current` with the masked fields of `wanted`. Raises InvalidInput for an unknown path or a bad value."""
    model = masked(current, wanted, mask, CHANGEABLE)
    check_model(model)
    return model
