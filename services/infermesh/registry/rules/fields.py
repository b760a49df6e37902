"""Checks of single fields that several resources share: labels, devices, counts, update masks, etags."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Final, TypeVar

from google.protobuf.field_mask_pb2 import FieldMask
from google.protobuf.message import Message

from infermesh.errors import Conflict, InvalidInput

DEVICES: Final = ("", "any", "cpu", "cuda", "mps", "xpu")

_LABELS_MAX = 64
_LABEL_KEY_MAX = 128
_LABEL_VALUE_MAX = 1024

M = TypeVar("M", bound=Message)


def bad(field: str, expected: str, got: object) -> InvalidInput:
    """Returns the error for `field` (a path such as `version.files[0].path`)."""
    shown = repr(got) if isinstance(got, str) else str(got)
    shown = shown if len(shown) <= 200 else shown[:200] + "…"
    return InvalidInput(
        f"{field}: expected {expected}, got {shown}",
        metadata={"field": field, "expected": expected, "got": shown},
        violations=[(field, f"expected {expected}, got {shown}")],
    )


def check_labels(field: str, labels: Mapping[str, str]) -> None:
    """Raises InvalidInput if there are too many labels, or one is empty or too long."""
    if len(labels) > _LABELS_MAX:
        raise bad(field, f"at most {_LABELS_MAX} entries", len(labels))
    for key, value in labels.items():
        if not 1 <= len(key) <= _LABEL_KEY_MAX or "\0" in key:
            raise bad(field, f"keys of 1 to {_LABEL_KEY_MAX} characters without NUL", key)
        if len(value) > _LABEL_VALUE_MAX or "\0" in value:
            raise bad(f"{field}[{key}]", f"at most {_LABEL_VALUE_MAX} characters without NUL", value)


def check_device(field: str, device: str) -> None:
    """Raises InvalidInput unless the device is one that a worker can have."""
    if device not in DEVICES:
        raise bad(field, "empty or one of " + ", ".join(DEVICES[1:]), device)


def check_range(field: str, value: int, least: int, most: int) -> None:
    """Raises InvalidInput unless `least <= value <= most`."""
    if not least <= value <= most:
        raise bad(field, f"{least} to {most}", value)


def check_count(field: str, count: int, least: int, most: int, unit: str = "entries") -> None:
    """Raises InvalidInput unless there are `least` to `most` of what `unit` names."""
    if not least <= count <= most:
        raise bad(field, f"{least} to {most} {unit}", f"{count} {unit}")


def check_unique(field: str, values: Iterable[str]) -> None:
    """Raises InvalidInput if a value comes twice."""
    seen: set[str] = set()
    for value in values:
        if value in seen:
            raise bad(field, "no value twice", value)
        seen.add(value)


def check_etag(name: str, wanted: str, actual: str) -> None:
    """Raises Conflict if the caller named an etag and the resource has another."""
    if wanted and wanted != actual:
        raise Conflict(
            f"{name} has changed: expected etag {wanted!r}, it is {actual!r}; read it again and repeat the change",
            metadata={"name": name, "expected_etag": wanted, "etag": actual},
        )


def masked(current: M, wanted: M, mask: FieldMask | None, fields: Sequence[str]) -> M:
    """Returns a copy of `current` with the fields of `mask` taken from `wanted`.

    `fields` are the names that may change. No mask means the populated ones of them; `*` means all of them. Paths may
    name a field of a message field (`batching.max_queue`). Raises InvalidInput for any other path.
    """
    paths = list(mask.paths) if mask is not None else []
    if not paths:
        populated = {field.name for field, _ in wanted.ListFields()}
        paths = [name for name in fields if name in populated]
    elif paths == ["*"]:
        paths = list(fields)
    changed = type(current)()
    changed.CopyFrom(current)
    for path in paths:
        _copy(changed, wanted, path, fields)
    return changed


def _copy(target: Message, source: Message, path: str, fields: Sequence[str]) -> None:
    first, _, rest = path.partition(".")
    descriptor = source.DESCRIPTOR.fields_by_name.get(first)
    if first not in fields or descriptor is None:
        raise bad("update_mask", "paths among " + ", ".join(fields), path)
    if not rest:
        target.ClearField(first)
        part = type(source)()
        part.CopyFrom(source)
        for field, _ in source.ListFields():
            if field.name != first:
                part.ClearField(field.name)
        target.MergeFrom(part)
        return
    nested = descriptor.message_type
    if nested is None or descriptor.is_repeated or rest not in nested.fields_by_name:
        raise bad("update_mask", "the path of a field that there is", path)
    _copy(getattr(target, first), getattr(source, first), rest, list(nested.fields_by_name))
