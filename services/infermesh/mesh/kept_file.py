"""A file in which a process keeps something for its next life: there as a whole or not at all, and never trusted
blindly. For the rooms that go on with what they last knew."""

import hashlib
import os
from pathlib import Path
from typing import Final

import structlog

_MAGIC: Final = b"infermesh-kept-1"


class KeptFile:
    """One file: a line with format and SHA-256, then the content. Blocking; for one process at a time."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._log = structlog.get_logger(__name__)

    def write(self, content: bytes) -> None:
        """Replaces the content; after a crash at any moment the old or the new one is there. Raises OSError."""
        self._path.parent.mkdir(parents=True, exist_ok=True)
        partial = self._path.with_name(f"{self._path.name}.partial")
        with partial.open("wb") as out:
            out.write(b"%s %s\n" % (_MAGIC, _digest(content)))
            out.write(content)
            out.flush()
            os.fsync(out.fileno())
        partial.replace(self._path)
        folder = os.open(self._path.parent, os.O_RDONLY)
        try:
            os.fsync(folder)  # only now does the new name survive a power cut
        finally:
            os.close(folder)

    def read(self) -> bytes | None:
        """Returns the content; None if there is none, or (which is logged) none that could be trusted."""
        try:
            head, _, content = self._path.read_bytes().partition(b"\n")
        except FileNotFoundError:
            return None
        except OSError as error:
            self._log.warning("kept file can't be read, going on without it", path=str(self._path), error=str(error))
            return None
        if head != b"%s %s" % (_MAGIC, _digest(content)):
            self._log.warning("kept file is damaged, going on without it", path=str(self._path))
            return None
        return content


def _digest(content: bytes) -> bytes:
    return hashlib.sha256(content).hexdigest().encode()
