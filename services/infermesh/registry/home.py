"""The registry's folder, and the lock that keeps a second registry out of it."""

import fcntl
import os
from pathlib import Path
from types import TracebackType
from typing import Self

from infermesh.errors import ConfigError


class Home:
    """A folder that belongs to one process while it is open; a context manager.

    Entering raises ConfigError if the folder can't be used, or if another process has it. The lock goes with the
    process, however it dies.
    """

    def __init__(self, folder: str) -> None:
        self._folder = Path(folder)
        self._descriptor = -1

    def __enter__(self) -> Self:
        path = self._folder / "registry.lock"
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise ConfigError(f"home: can't use the folder {self._folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            owner = os.pread(self._descriptor, 20, 0).decode("ascii", "replace").strip()
            os.close(self._descriptor)
            holder = f"process {owner}" if owner else "another process"
            raise ConfigError(f"home: {self._folder} is in use by a registry ({holder}): stop it first") from error
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, str(os.getpid()).encode(), 0)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        os.close(self._descriptor)
