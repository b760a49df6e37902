"""What a well-behaved client notices of others that misbehave: `python -m benchmarks.abuse [ATTACK…]`.

For each attack, the same client's p99 alone and beside the attack, in turns, and the median of the ratios; the gateway
has its default settings but for the memory it may take. One line per attack and one for memory, `NAME VALUE GOAL
ok|short`; exit 1 if one is short.
"""

import gzip
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import psutil

from tests.mesh import attacks
from tests.mesh.attacks import (
    DATA,
    END_HEADERS,
    END_STREAM,
    HEADERS,
    RST_STREAM,
    UNARY,
    Attackers,
    Bystander,
    frame,
    framed,
    grpc_headers,
)
from tests.mesh.interop_messages import message
from tests.mesh.test_gateway_front import Gateway, gateway

MIB = 1 << 20
CAP = 512 * MIB
PAIRS = 5
SECONDS = 3.0
P99_RATIO = 2.0
_OPENED = frame(HEADERS, END_HEADERS, 1, grpc_headers(UNARY))
_BODY = framed(bytes(1000))

Step = Callable[[], object]
"""What an attack does, again and again; its first call opens the connections."""


def slow_readers(them: Attackers) -> Step:
    """Forty answers of 2 MiB of which nobody reads more than the first 64 KiB."""
    wanted = framed(message("SimpleRequest")(response_size=2 * MIB).SerializeToString())
    for _ in range(40):
        them.http2(_OPENED, frame(DATA, END_STREAM, 1, wanted))
    return _nothing


def half_open(them: Attackers) -> Step:
    """Five hundred connections that say nothing, or half of it."""
    for number in range(500):
        them.connect(b"" if number % 2 else attacks.PREFACE[:9])
    return _nothing


def idle(them: Attackers) -> Step:
    """A thousand connections that do nothing but answer pings."""
    for _ in range(1000):
        them.http2()
    return _nothing


def rapid_reset(them: Attackers) -> Step:
    """A thousand calls per second, each cancelled at once; a new connection when one was closed."""
    headers, cancel = grpc_headers(UNARY), (8).to_bytes(4, "big")
    peer, at, due = them.http2(), 1, time.monotonic()

    def flood() -> None:
        nonlocal peer, at, due
        while due < time.monotonic():
            due += 0.02
            if peer.closed:
                peer, at = them.http2(), 1
            streams = range(at, at + 40, 2)
            at += 40
            peer.send(*(frame(HEADERS, END_HEADERS, s, headers) + frame(RST_STREAM, 0, s, cancel) for s in streams))

    return flood


def trickle(them: Attackers) -> Step:
    """Two hundred requests of which one byte comes each second."""
    peers = [them.http2(_OPENED, frame(DATA, 0, 1, _BODY[:6])) for _ in range(200)]
    due = time.monotonic()

    def drip() -> None:
        nonlocal due
        if due < time.monotonic():
            due += 1
            for peer in peers:
                peer.send(frame(DATA, 0, 1, b"\0"))

    return drip


def bombs(them: Attackers) -> Step:
    """Ten requests per second of 60 KB that would be 60 MiB."""
    bomb = framed(gzip.compress(bytes(60 * MIB)), flag=1)
    opened = frame(HEADERS, END_HEADERS, 1, grpc_headers(UNARY, ("grpc-encoding", "gzip")))
    pieces = [frame(DATA, 0, 1, bomb[at : at + 16_000]) for at in range(0, len(bomb), 16_000)]
    due = time.monotonic()

    def throw() -> None:
        nonlocal due
        if due < time.monotonic():
            due += 0.1
            them.http2(opened, *pieces, frame(DATA, END_STREAM, 1))

    return throw


ATTACKS = (slow_readers, half_open, idle, rapid_reset, trickle, bombs)


def _nothing() -> None:
    pass


def ratio(address: str, bystander: Bystander, attack: Callable[[Attackers], Step]) -> tuple[float, list[str]]:
    """Returns the median ratio of the p99 beside the attack to that alone, and what failed."""
    ratios, failures = [], []
    for _ in range(PAIRS):
        bystander.calls()
        time.sleep(SECONDS)
        alone = bystander.calls()
        with attacks.attackers(address) as them:
            step = attack(them)
            them.run(0.3, step)
            bystander.calls()
            them.run(SECONDS, step)
            beside = bystander.calls()
        failures += beside.failures
        ratios.append(beside.percentile(0.99) / alone.percentile(0.99))
        time.sleep(0.5)
    return statistics.median(ratios), failures


def peak(front: Gateway) -> float:
    """Returns the largest memory that Envoy has had, in MiB."""
    (envoy,) = [p for p in psutil.Process(front.process.pid).children() if "envoy" in p.name()]
    lines = Path(f"/proc/{envoy.pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM")) / 1024


def row(name: str, value: float, goal: float) -> bool:
    """Prints a row; returns whether the goal is reached."""
    good = value <= goal
    print(f"{name:24} {value:8.2f} {goal:8.2f} {'ok' if good else 'short'}", flush=True)
    return good


def main(names: Sequence[str]) -> int:
    """Runs all attacks, or those named; returns the exit status."""
    flags = ("--max-memory-bytes", str(CAP), "--max-body-bytes", str(64 * MIB))
    with tempfile.TemporaryDirectory() as folder, gateway(Path(folder), *flags) as front:
        address = front.wait_ready()
        bystander = Bystander(address)
        good = True
        try:
            for attack in (attack for attack in ATTACKS if not names or attack.__name__ in names):
                found, failures = ratio(address, bystander, attack)
                good &= row(f"abuse-{attack.__name__}", found, P99_RATIO)
                good &= row(f"abuse-{attack.__name__}-failed", len(failures), 0)
        finally:
            bystander.close()
        good &= row("abuse-memory-MiB", peak(front), CAP / MIB)
    return 0 if good else 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
