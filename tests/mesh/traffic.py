"""Steady calls in the background of a test, from a thread of its own, so that the test can do things to the mesh."""

import asyncio
import threading
import time
from collections import Counter

from infermesh.client import AsyncClient, Retry
from infermesh.errors import MeshError
from tests.mesh.models import ROW


class Traffic:
    """Keeps `callers` calls under way until it is left; never repeats one. Counts versions and keeps failures.

    `scales` maps versions to their scale: each answer must be the one that the version it names would give.
    """

    def __init__(self, address, deployment, scales, *, callers=16, version="", rate=0.0, client_options=None):
        self._address = address
        self._deployment = deployment
        self._scales = scales
        self._callers = callers
        self._version = version
        self._pause = callers / rate if rate else 0.0
        self._stop = threading.Event()
        self._thread = threading.Thread(target=lambda: asyncio.run(self._run()), name="traffic")
        self.versions: Counter[str] = Counter()
        self.failures: list[str] = []
        self.answered = 0
        self.slowest = 0.0

    def __enter__(self):
        self._thread.start()
        return self

    def __exit__(self, *_):
        self._stop.set()
        self._thread.join(60)
        assert not self._thread.is_alive(), "calls are still under way a minute after the last was begun"

    def more(self, calls, timeout=60.0):
        """Waits until that many more calls have been answered or have failed."""
        wanted = self.answered + len(self.failures) + calls
        until = time.monotonic() + timeout
        while self.answered + len(self.failures) < wanted:
            assert time.monotonic() < until, f"only {self.answered} answers, {self.failures[:3]}"
            time.sleep(0.01)

    async def _run(self):
        async with AsyncClient(self._address, retry=Retry(attempts=1)) as client, asyncio.TaskGroup() as group:
            for caller in range(self._callers):
                group.create_task(self._call(client, caller))

    async def _call(self, client, caller):
        number = caller
        while not self._stop.is_set():
            number += self._callers
            rows = ROW + number
            start = time.monotonic()
            try:
                result = await client.infer(self._deployment, {"x": rows}, version=self._version, timeout=20)
                self._check(rows, result)
            except MeshError as error:
                self.failures.append(f"{type(error).__name__}: {error}")
            self.slowest = max(self.slowest, time.monotonic() - start)
            await asyncio.sleep(self._pause)

    def _check(self, rows, result):
        wanted = rows * self._scales[result.version] + 1
        if (result["y"] != wanted).any():
            self.failures.append(f"wrong answer of version {result.version}: wanted {wanted}, got {result['y']}")
            return
        self.versions[result.version] += 1
        self.answered += 1
