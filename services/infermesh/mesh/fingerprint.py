"""Recognises inference requests that ask for the same: used by gateway and worker against queries of death.

Only where a model version has suspects or refuses something is anything computed here.
"""

from collections.abc import Iterable, Iterator
from contextlib import suppress
from hashlib import blake2b
from typing import Final

from google.protobuf.message import DecodeError

from infermesh.mesh.wire import Bytes, fields

_ASIDE: Final = frozenset({1, 2, 3})  # fields of ModelInferRequest: model_name, model_version, id
_DIGEST_BYTES: Final = 16
_SIZE_BYTES: Final = 5

Part = memoryview


def fingerprint(payload: Bytes) -> bytes:
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

    def match(self, payload: Bytes) -> bytes | None:
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


def _asked(payload: Bytes) -> Iterator[Part]:
    """Yields the payload without the fields that do not matter, in as few pieces as there are."""
    view, begin = memoryview(payload), 0
    with suppress(DecodeError):  # no message: the model's own parser says so
        for field in fields(payload):
            if field.tag >> 3 in _ASIDE:
                if field.begin > begin:
                    yield view[begin : field.begin]
                begin = field.end
    if begin < len(view):
        yield view[begin:]
