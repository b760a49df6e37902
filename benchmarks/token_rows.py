"""The rows about token streams: what a token costs beside a plain server that sends one message for each."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from benchmarks import h2load, tokens
from benchmarks.pairs import Run
from benchmarks.rows import Absent, Row
from benchmarks.settings import Settings

STREAMS: Final = 100
TOKENS: Final = 200
STEPS: Final = {"tokens-cpu": 0.01, "tokens-fast-cpu": 0.0}
"""Seconds between two tokens of a stream, by row; 0 is as fast as it goes."""
GOAL: Final = 0.5

Figure = Callable[[Callable[[Run], float]], float]


def rows(folder: Path, settings: Settings) -> Iterator[Row | Absent]:
    """Yields a row for each pace; or that there is no h2load, the only load that leaves the cores to the servers."""
    if not h2load.installed():
        yield from (Absent(name, h2load.INSTALL) for name in STEPS)
        return
    load = tokens.Streams(STREAMS, TOKENS, settings.token_rounds, folder / "tokens-call")
    load.body.write_bytes(h2load.frame(load.request()))
    with tokens.mesh(folder / "tokens", list(STEPS.values()), 2 * STREAMS) as deploy:
        for name, step in STEPS.items():
            pairs, _ = tokens.measure(load, deploy, step, settings.pairs)
            ratio = pairs.ratio(_cpu)
            note = f"plain {_figures(pairs.base)}; mesh {_figures(pairs.other)}"
            yield Row(name, ratio.median, GOAL, True, ratio.low, ratio.high, noisy=pairs.noisy, note=note)


def _figures(of: Figure) -> str:
    return f"{of(_cpu):.1f} µs of CPU a token, {of(lambda run: run.rate):.0f} tokens/s"


def _cpu(run: Run) -> float:
    return run.cpu_us
