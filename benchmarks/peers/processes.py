"""A server's processes: what they cost together, and their end."""

import contextlib
from collections.abc import Iterator

import psutil

GRACE = 10.0
"""Seconds between the wish and the order to end."""


class ProcessTree:
    """A process with all that it has started, also what was handed to init since it was first seen."""

    def __init__(self, pid: int) -> None:
        self._seen = {pid: psutil.Process(pid)}
        self._spent: dict[int, float] = {}

    def cpu(self) -> float:
        """Returns the CPU time of all of them so far in seconds; what has ended keeps its last reading."""
        for process in self._members():
            with contextlib.suppress(psutil.NoSuchProcess):
                times = process.cpu_times()
                self._spent[process.pid] = times.user + times.system
        return sum(self._spent.values())

    def end(self) -> None:
        """Ends all of them: the first is asked and gets GRACE seconds, then the rest are asked, then killed."""
        members = list(self._members())
        for asked, grace in ((members[:1], GRACE), (members, 2.0)):
            for process in asked:
                with contextlib.suppress(psutil.NoSuchProcess):
                    process.terminate()
            psutil.wait_procs(asked, timeout=grace)
        for process in members:
            with contextlib.suppress(psutil.NoSuchProcess):
                process.kill()
        psutil.wait_procs(members, timeout=2.0)

    def _members(self) -> Iterator[psutil.Process]:
        for known in list(self._seen.values()):
            with contextlib.suppress(psutil.NoSuchProcess):
                for child in known.children(recursive=True):
                    self._seen.setdefault(child.pid, child)
        return iter(list(self._seen.values()))
