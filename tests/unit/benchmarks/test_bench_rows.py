"""The pure parts of the benchmarks: what h2load said, what pairs of runs amount to, what is reported."""

import json
import math
from pathlib import Path

import pytest

from benchmarks import h2load, report
from benchmarks.pairs import Pairs, Run, interleave
from benchmarks.rows import Absent, Row, table
from benchmarks.settings import QUICK

REPORT = """starting benchmark...
finished in 1.50s, 1363.33 req/s, 456.82KB/s
requests: 2045 total, 2046 started, 2045 done, 2044 succeeded, 1 failed, 0 errored, 0 timeout
traffic: 685.24KB (701681) total, 6.06KB (6210) headers (space savings 96.25%), 567.17KB (580780) data
"""


def run(cpu_us: float, rate: float = 1.0) -> Run:
    return Run(cpu_us, rate, 0.001, 0.002)


def test_what_h2load_said_is_understood() -> None:
    log = "".join(f"1795373277589300\t200\t{micros}\n" for micros in range(100, 0, -1))

    assert h2load.parse(REPORT, log) == h2load.Result(2045, 1, 580780, 1363.33, 51e-6, 100e-6, 50.5e-6)


def test_the_log_alone_tells_rate_and_failures() -> None:
    log = "1000000\t200\t500\n1500000\t503\t700\n1000000\t200\t1000000\n2999000\t-1\t1000\n"

    found = h2load.parse_log(log)

    assert (found.calls, found.failed, found.rate, found.p50) == (4, 2, 2.0, 0.001)
    assert found.mean == pytest.approx((0.0005 + 0.0007 + 1 + 0.001) / 4)


@pytest.mark.parametrize(("text", "log"), [("", "1\t200\t3\n"), (REPORT, "")])
def test_a_load_without_a_call_is_no_figure(text: str, log: str) -> None:
    with pytest.raises(h2load.LoadFailed):
        h2load.parse(text, log)


def test_a_command_puts_that_many_calls_in_flight(tmp_path: Path) -> None:
    words = h2load.command("http://h:1/p", 64, 2.5, tmp_path, {"te": "trailers"})

    assert words[1:9] == ["-D", "2500ms", "-c", "8", "-m", "8", "-d", str(tmp_path)]
    assert words[9:] == ["-H", "te: trailers", "http://h:1/p"]
    assert [h2load.spread(count) for count in (1, 8, 256)] == [(1, 1), (8, 1), (8, 32)]


def test_without_h2load_the_error_names_the_command_that_installs_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(h2load, "installed", lambda: False)

    with pytest.raises(h2load.LoadFailed, match="apt-get install nghttp2-client"):
        h2load.run(["h2load"])


def test_a_frame() -> None:
    assert h2load.frame(b"ab") == b"\0\0\0\0\x02ab"


def test_runs_alternate_and_each_is_compared_with_its_neighbour() -> None:
    order: list[str] = []
    costs = {"a": iter([100.0, 200.0, 110.0]), "b": iter([50.0, 150.0, 44.0])}

    def one(name: str) -> Run:
        order.append(name)
        return run(next(costs[name]))

    pairs = interleave(lambda: one("a"), lambda: one("b"), 3)
    ratio = pairs.ratio(lambda r: r.cpu_us)

    assert "".join(order) == "ababab"
    assert (ratio.median, ratio.low, ratio.high) == (0.5, 0.4, 0.75)
    assert (pairs.base(lambda r: r.cpu_us), pairs.other(lambda r: r.cpu_us)) == (110.0, 50.0)
    assert pairs.noisy


@pytest.mark.parametrize(("costs", "noisy"), [((100, 119), False), ((100, 121), True)])
def test_a_row_is_noisy_when_the_base_moves_by_more_than_a_fifth(costs: tuple[float, ...], noisy: bool) -> None:
    assert Pairs([(run(cost), run(1)) for cost in costs]).noisy is noisy


def test_rows_reach_their_goals_from_their_own_side() -> None:
    cheap, slow = Row("cpu", 0.6, 0.6, at_most=True, low=0.5, high=0.7), Row("rate", 1.99, 2.0, at_most=False)
    share = Row("share", 0.951, 0.95, at_most=False, unit="%", noisy=True)

    assert [str(row) for row in (cheap, slow, share)] == [
        "cpu 0.60x <=0.60x ok",
        "rate 1.99x >=2.00x short",
        "share 95.1% >=95.0% ok noisy",
    ]
    assert not Row("cpu", 0.601, 0.6, at_most=True).ok
    assert (cheap.spread, slow.spread) == ("0.50x-0.70x", "")


def test_a_figure_that_is_none_is_short() -> None:
    assert not Row("cpu", math.nan, 0.6, at_most=True).ok
    assert not Row("rate", math.nan, 2.0, at_most=False).ok


def test_a_figure_without_a_goal_is_neither_reached_nor_short() -> None:
    for at_most in (True, False):
        row = Row("prototype", 9.0, math.nan, at_most=at_most)
        assert row.ok
        assert str(row) == "prototype 9.00x - -"


def test_a_report_says_everything(tmp_path: Path) -> None:
    rows = [Row("cpu", 0.5, 0.6, at_most=True, low=0.4, high=0.7, note="echo 100 µs"), Row("rate", 1, 2, at_most=False)]
    absent = [Absent("peer-x", "no such wheel")]

    path = report.write(tmp_path / "results", "bench", rows, absent, {"machine": "two cores"}, QUICK)

    text = path.read_text()
    assert table(rows, absent) in text
    assert "- machine: two cores" in text
    assert "| cpu | **0.50x** | <=0.60x | ok | 0.40x-0.70x | echo 100 µs |" in text
    assert "- peer-x: no such wheel" in text
    figures = json.loads(path.with_suffix(".json").read_text())
    assert [row["ok"] for row in figures["rows"]] == [True, False]
    assert figures["rows"][1]["low"] is None
    assert figures["settings"]["pairs"] == QUICK.pairs
