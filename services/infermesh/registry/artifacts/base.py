"""The seam of the artifact store: files that are found by the digest of their content.

All methods block on the disk: call them off the event loop. A store may be used from several threads at once, and from
several uploads of one digest at once; a `Partial` belongs to one caller at a time.
"""

from collections.abc import Iterator
from typing import Protocol


class Partial(Protocol):
    """A file on its way in, opened for writing at its end."""

    @property
    def received(self) -> int:
        """Bytes that it holds."""

    def append(self, data: bytes) -> None:
        """Writes `data` at the end. Raises Overloaded if the disk is full; then it stands where it stood before."""

    def commit(self, digest: str) -> None:
        """Makes it the file of `digest`, durably, and closes it; done twice for one digest is done once.

        Raises InvalidInput if the content has another digest; then the partial is thrown away.
        """

    def close(self) -> None:
        """Makes what it holds durable and lets it go; `ArtifactStore.open` takes it up again. Idempotent."""


class ArtifactStore(Protocol):
    """Holds finished files by digest, and partial ones by the id of their upload."""

    def size(self, digest: str) -> int | None:
        """Returns the size of a file in bytes; None if it is not there or was found damaged."""

    def read(self, digest: str, offset: int) -> Iterator[bytes]:
        """Yields the file's bytes from `offset` on, in pieces of up to 1 MiB.

        The whole file is hashed on the way, and the last piece comes only if the digest is right: who has all the
        bytes has the right bytes. Raises NotFound, OutOfRange for an offset beyond the end, DataLoss for damage.
        """

    def received(self, upload: str) -> int:
        """Returns how many bytes of an upload are durable; 0 if it has none."""

    def open(self, upload: str) -> Partial:
        """Opens the partial file of an upload where it stands, or a new one."""

    def discard(self, upload: str) -> None:
        """Throws the partial file of an upload away, if there is one."""
