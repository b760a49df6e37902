"""Recognises inference requests that ask for the same: used by gateway and worker against queries of death.

Only where a model version has suspects or refuses something is anything computed here.
"""

from collections.abc import Iterable, Iterator
from hashlib import blake2b
from typing import Final

_ASIDE: Final = frozenset({1, 2, 3})  # fields of ModelInferRequest: model_name, model_version, id
_DIGEST_BYTES: Final = 16
_SIZE_BYTES: Final = 5

Part = memoryview


def fingerprint(payload: bytes) -> bytes:
    """Returns what requests have in common that ask the same model version for the same.

    That is size and digest of a serialised ModelInferRequest without model, version and id. Bytes that are no message
    are taken as they are.
    """
    return _digest(list(_asked(payload)))


class Fingerprints:
    """A set of fingerprints that tells quickly of most payloads that they are not in it."""

    def __init__(self, of: Iterable[bytes] = ()) -> None:
        self.all = frozenset(of)
        self._sizes = {known[:_SIZE_BYTES] for known in self.all}

    def __bool__(self) -> bool:
        return bool(self.all)

    def match(self, payload: bytes) -> bytes | None:
        """Returns the fingerprint of a payload if it is in the set; digests only what has a known size."""
        parts = list(_asked(payload))
        if _size(parts) not in self._sizes:
            return None
        found = _digest(parts)
        return found if found in self.all else None


def _size(parts: list[Part]) -> bytes:
    return sum(len(part) for part in parts).to_bytes(_SIZE_BYTES, "big")


def _digest(parts: list[Part]) -> bytes:
    digest = blake2b(digest_size=_DIGEST_BYTES)
    for part in parts:
        digest.update(part)
    return _size(parts) + digest.digest()


def _asked(payload: bytes) -> Iterator[Part]:
    """Yields the payload without the fields that do not matter, in as few pieces as there are."""
    view, begin, at = memoryview(payload), 0, 0
    while at < len(payload):
        start = at
        tag, at = _varint(payload, at)
        length, at = _length(payload, tag & 7, at)
        if length < 0 or at + length > len(payload):
            at = len(payload)  # no message: the model's own parser says so
            break
        at += length
        if tag >> 3 in _ASIDE:
            if start > begin:
                yield view[begin:start]
            begin = at
    if at > begin:
        yield view[begin:at]


def _length(payload: bytes, kind: int, at: int) -> tuple[int, int]:
    """Returns the length of a field's value and where that begins; -1 for what protobuf does not know."""
    if kind == 2:
        return _varint(payload, at)
    if kind == 0:
        return _varint(payload, at)[1] - at, at
    return {1: 8, 5: 4}.get(kind, -1), at


def _varint(payload: bytes, at: int) -> tuple[int, int]:
    """Returns a number and where it ends; beyond the payload where it is cut."""
    number, shift, size = 0, 0, len(payload)
    while at < size and shift < 64:
        byte = payload[at]
        at += 1
        number |= (byte & 127) << shift
        if byte < 128:
            return number, at
        shift += 7
    return number, size + 1
