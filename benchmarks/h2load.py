"""Closed-loop load by `h2load`, which costs far less than any client in Python and so leaves the cores to the servers.

A gRPC call is an HTTP/2 POST of a 5-byte frame and a message. `h2load` does not look at `grpc-status`, which is a
trailer; but an error has no body, so the bytes that came tell whether every call had its answer.
"""

import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

INSTALL: Final = "h2load is missing. Install it with: sudo apt-get install nghttp2-client (or: brew install nghttp2)"
HEADERS: Final = {
    "content-type": "application/grpc",
    "te": "trailers",
    "grpc-timeout": "30S",
    "traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
}

_FINISHED: Final = re.compile(r"finished in .*?, ([\d.]+) req/s")
_REQUESTS: Final = re.compile(r"requests: \d+ total, \d+ started, (\d+) done, (\d+) succeeded, (\d+) failed")
_DATA: Final = re.compile(r"\((\d+)\) data")


class LoadFailed(RuntimeError):
    """The load could not run, or calls failed."""


@dataclass(frozen=True)
class Result:
    """What a run did: calls, how many failed, bytes of bodies that came, calls per second, latencies in seconds."""

    calls: int
    failed: int
    data: int
    rate: float
    p50: float
    p99: float
    mean: float


def installed() -> bool:
    """Tells whether there is h2load on this machine."""
    return shutil.which("h2load") is not None


def frame(message: bytes) -> bytes:
    """Returns a message as gRPC frames it, uncompressed."""
    return b"\0" + len(message).to_bytes(4, "big") + message


def spread(in_flight: int) -> tuple[int, int]:
    """Returns connections and streams of each for that many calls in flight: at most eight of the one."""
    connections = min(8, in_flight)
    return connections, in_flight // connections


def command(url: str, in_flight: int, seconds: float, body: Path, headers: Mapping[str, str]) -> list[str]:
    """Returns the command line of a run."""
    connections, streams = spread(in_flight)
    words = ["h2load", "-D", f"{seconds * 1000:.0f}ms", "-c", str(connections), "-m", str(streams), "-d", str(body)]
    return [*words, *(word for name, value in headers.items() for word in ("-H", f"{name}: {value}")), url]


def run(words: Sequence[str], limit: float = 60.0) -> Result:
    """Runs a command line of h2load. Raises LoadFailed if there is no h2load or it does not end well.

    Against some HTTP/1.1 servers h2load makes its calls and then never ends: it is killed after `limit` seconds, and
    its log says what happened until then.
    """
    if not installed():
        raise LoadFailed(INSTALL)
    with tempfile.TemporaryDirectory() as folder:
        log = Path(folder) / "log"
        command = [words[0], f"--log-file={log}", *words[1:]]
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=limit)
        except subprocess.TimeoutExpired:
            return parse_log(log.read_text())
        if done.returncode:
            raise LoadFailed(f"h2load ended with {done.returncode}: {(done.stderr or done.stdout).strip()[-500:]}")
        return parse(done.stdout, log.read_text())


def parse(report: str, log: str) -> Result:
    """Returns what h2load's report and log say. Raises LoadFailed if they are not as expected, or no call was done."""
    rate, requests, data = (pattern.search(report) for pattern in (_FINISHED, _REQUESTS, _DATA))
    if rate is None or requests is None or data is None:
        raise LoadFailed(f"h2load did no call: {report.strip()[-500:]}")
    timed = parse_log(log)
    calls, failed = int(requests[1]), int(requests[3])
    return replace(timed, calls=calls, failed=failed, data=int(data[1]), rate=float(rate[1]))


def parse_log(log: str) -> Result:
    """Returns what h2load's log alone says; bytes it does not know. Raises LoadFailed if no call was done."""
    rows = [tuple(map(int, line.split("\t"))) for line in log.splitlines()]
    if not rows:
        raise LoadFailed("h2load did no call")
    micros = sorted(took for _, _, took in rows)
    seconds = (max(start + took for start, _, took in rows) - min(start for start, _, _ in rows)) / 1e6
    failed = sum(not 200 <= status < 300 for _, status, _ in rows)
    p50, p99 = (micros[int(len(micros) * share)] / 1e6 for share in (0.5, 0.99))
    return Result(len(rows), failed, 0, len(rows) / seconds, p50, p99, sum(micros) / len(micros) / 1e6)
