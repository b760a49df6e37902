"""What the processes of a system have used: CPU time of whole trees, and of each thread."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True, order=True)
class Thread:
    """A thread of a system: its process's role (`gateway/envoy`), its kernel name and id."""

    process: str
    name: str
    id: int


@dataclass(frozen=True)
class Spent:
    """What a thread has used: seconds on a CPU, and how often it slept until something woke it."""

    cpu: float
    wakes: int

    def __sub__(self, earlier: "Spent") -> "Spent":
        return Spent(self.cpu - earlier.cpu, self.wakes - earlier.wakes)


def tree(pids: Iterable[int]) -> list[psutil.Process]:
    """Returns processes with all their descendants."""
    roots = [psutil.Process(pid) for pid in pids]
    return [process for root in roots for process in (root, *root.children(recursive=True))]


def cpu_seconds(pids: Iterable[int]) -> float:
    """Returns the CPU time, user and system, of processes and all their descendants."""
    times = [process.cpu_times() for process in tree(pids)]
    return sum(time.user + time.system for time in times)


def thread_times(roots: Mapping[str, int]) -> dict[Thread, Spent]:
    """Returns what each living thread of named processes and of their descendants has used. Linux only."""
    return {
        thread: spent
        for name, pid in roots.items()
        for process in tree([pid])
        for thread, spent in _threads(name if process.pid == pid else f"{name}/{_role(process)}", process.pid)
    }


def _role(process: psutil.Process) -> str:
    words = " ".join(process.cmdline())
    return "runner" if "runner_process" in words else str(process.name())


def _threads(process: str, pid: int) -> list[tuple[Thread, Spent]]:
    found = []
    for folder in Path(f"/proc/{pid}/task").iterdir():
        try:
            name = (folder / "comm").read_text().strip()
            nanoseconds = int((folder / "schedstat").read_text().split()[0])
            status = (folder / "status").read_text()
        except (FileNotFoundError, ProcessLookupError):  # it has just ended
            continue
        wakes = int(status.split("\nvoluntary_ctxt_switches:")[1].split()[0])
        main = " (main)" if int(folder.name) == pid else ""
        found.append((Thread(process, name + main, int(folder.name)), Spent(nanoseconds / 1e9, wakes)))
    return found
