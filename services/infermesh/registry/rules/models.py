"""What a model may look like."""

from google.protobuf.field_mask_pb2 import FieldMask

from infermesh.registry.rules.fields import bad, check_labels, masked
from infermesh.v1.model_pb2 import Model

CHANGEABLE = ("description", "labels")

_DESCRIPTION_MAX = 4096


def check_model(model: Model) -> None:
    """Raises InvalidInput if description or labels are over their limits."""
    if len(model.description) > _DESCRIPTION_MAX:
        raise bad("model.description", f"at most {_DESCRIPTION_MAX} characters", len(model.description))
    check_labels("model.labels", model.labels)


def updated(current: Model, wanted: Model, mask: FieldMask | None) -> Model:
    """Returns `current` with the masked fields of `wanted`. Raises InvalidInput for an unknown path or a bad value."""
    model = masked(current, wanted, mask, CHANGEABLE)
    check_model(model)
    return model
