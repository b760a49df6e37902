"""The rows about other servers of the same model: how many more requests a second the mesh answers on these cores."""

from collections.abc import Iterator
from pathlib import Path
from typing import Final

from benchmarks import h2load, models
from benchmarks.calls import Calls
from benchmarks.pairs import Pairs, Run, interleave
from benchmarks.peers import Peer, PeerError, Serving, peers
from benchmarks.peers.environment import READY, Environment
from benchmarks.rows import Absent, Row
from benchmarks.servers import System
from benchmarks.settings import Settings

GOALS: Final = {"best": 2.0, "heavy": 5.0, "other": 10.0}
IN_FLIGHT: Final = 64
PEERS: Final = Path(__file__).parent / "peers"


def rows(folder: Path, mesh: System, settings: Settings) -> Iterator[Row | Absent]:
    """Yields a row for each peer, or why it is absent, and one for the best of them; `mesh` serves the MLP."""
    calls = Calls(folder / "peer-call", models.mlp().request())
    found = []
    for peer in peers():
        row = one(peer, calls, mesh, settings)
        if isinstance(row, Row):
            found.append(row)
        yield row
    if found:
        best = min(found, key=lambda row: row.value)
        yield Row("peers-best", best.value, GOALS["best"], False, best.low, best.high, noisy=best.noisy, note=best.name)


def one(peer: Peer, calls: Calls, mesh: System, settings: Settings) -> Row | Absent:
    """Runs one peer and the mesh in turn."""
    name = f"peer-{peer.name}"
    if peer.group not in settings.peers:
        return Absent(name, "left out; `make bench` runs it")
    if not settings.install and not installed(peer):
        return Absent(name, "not installed; `make bench` installs it")
    if why := peer.prepare():
        return Absent(name, why)
    seconds = max(1, round(settings.seconds))
    try:
        with peer.serve() as serving:
            load(serving, 1)  # warm
            calls.run(mesh, IN_FLIGHT, 0.5)
            pairs = interleave(
                lambda: load(serving, seconds), lambda: calls.run(mesh, IN_FLIGHT, seconds), settings.peer_pairs
            )
            serving.check()
    except (PeerError, h2load.LoadFailed) as error:
        return Absent(name, " ".join(str(error).split()))
    return _row(name, GOALS[peer.group], pairs)


def installed(peer: Peer) -> bool:
    """Tells whether a peer has been prepared before."""
    environment = Environment(peer.name, PEERS / peer.name / "requirements.txt")
    return (environment.folder / READY).exists()


def load(serving: Serving, seconds: int) -> Run:
    """Loads a peer. Raises LoadFailed if a call failed."""
    before = serving.cpu()
    result = h2load.run(serving.h2load(IN_FLIGHT, seconds))
    spent = serving.cpu() - before
    if result.failed or not result.calls:
        raise h2load.LoadFailed(f"{serving.name}: {result.failed} of {result.calls} calls failed")
    return Run(1e6 * spent / result.calls, result.rate, result.p50, result.p99, result.calls)


def _row(name: str, goal: float, pairs: Pairs) -> Row:
    rate = pairs.ratio(lambda run: run.rate)
    note = "; ".join(
        f"{who} {of(lambda run: run.rate):.0f}/s, {of(lambda run: run.cpu_us):.0f} µs of CPU a call"
        for who, of in ((name.removeprefix("peer-"), pairs.base), ("mesh", pairs.other))
    )
    return Row(name, rate.median, goal, False, rate.low, rate.high, noisy=pairs.noisy, note=note)
