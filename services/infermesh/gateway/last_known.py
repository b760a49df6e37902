"""The routes of this gateway's last life, for a start while no scheduler can be reached. Used by the core."""

import asyncio
import threading
from pathlib import Path
from typing import Final

import structlog
from google.protobuf.message import DecodeError

from infermesh.mesh.kept_file import KeptFile
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot

_FILE: Final = "routes"
_PAUSE: Final = 0.5  # seconds between two writes: routes change in bursts

log = structlog.get_logger(__name__)


class LastKnown:
    """Keeps the newest routes in a folder. What can't be read or written is done without, which is logged."""

    def __init__(self, folder: Path) -> None:
        self._file = KeptFile(folder / _FILE)
        self._newest: RouteSnapshot | None = None
        self._changed = asyncio.Event()
        self._writing = threading.Lock()  # a write that was begun goes on when its task is cancelled

    def read(self) -> RouteSnapshot | None:
        """Returns the routes that an earlier life kept. Blocking; for the start."""
        content = self._file.read()
        if content is None:
            return None
        try:
            return RouteSnapshot.FromString(content)
        except DecodeError as error:
            log.warning("kept routes make no sense, going on without them", error=str(error))
            return None

    def keep(self, snapshot: RouteSnapshot) -> None:
        """Has `snapshot`, which must not be changed afterwards, written soon. Does not block."""
        self._newest = snapshot
        self._changed.set()

    async def run(self) -> None:
        """Writes what there is to keep, until cancelled; then also what was not yet written."""
        try:
            while True:
                await self._changed.wait()
                self._changed.clear()
                await asyncio.to_thread(self._write)
                await asyncio.sleep(_PAUSE)
        finally:
            if self._changed.is_set():
                self._write()

    def _write(self) -> None:
        if self._newest is None:
            return
        with self._writing:
            try:
                self._file.write(self._newest.SerializeToString())
            except OSError as error:
                log.warning("routes can't be kept", error=str(error))
