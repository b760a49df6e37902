"""Simulations: they repeat themselves, account for every request, and are what the command prints."""

from itertools import pairwise
from math import inf
from pathlib import Path
from random import Random
from statistics import fmean, pstdev

import pytest

from infermesh.errors import InvalidInput, NotFound
from infermesh.simulation import CURVES, Model, Noise, Report, Request, Scenario, Shape, simulate
from infermesh.simulation.arrivals import requests, times, zipf
from infermesh.simulation.curves import parse
from infermesh.simulation.trace import read, write

MODEL = Model(CURVES["picture"], 16)


def run(load: float = 1.0, seed: int = 1, shape: Shape = Shape.poisson, slo: float = 0.1, **scenario: object) -> Report:
    workers = int(str(scenario.get("workers", 1)))
    rate = load * workers * MODEL.curve.throughput(16)
    played = requests(shape, rate, 800 / rate, ["a"], [1.0], slo, seed)
    return simulate(Scenario({"a": MODEL}, seed=seed, **scenario), played)  # type: ignore[arg-type]


def test_the_same_seed_gives_the_same_digest_and_another_another() -> None:
    first, again, other = run(workers=3, seed=4), run(workers=3, seed=4), run(workers=3, seed=5)
    assert first == again
    assert first.digest != other.digest


@pytest.mark.parametrize("load", [0.5, 2.0])
def test_every_request_ends_once_and_gets_its_own_answer(load: float) -> None:
    report = run(load, workers=2, slow={1: 3.0})
    assert report.good + report.late + report.refused + report.expired + report.failed == report.requests
    assert (report.wrong, report.failed) == (0, 0)
    assert report.executed >= report.good
    assert all(0 < share <= 1.001 for share in report.utilisation)


def test_an_idle_mesh_answers_in_the_time_of_a_run_and_two_ways() -> None:
    quiet = Scenario({"a": MODEL}, noise=Noise(0.0, 0.0), delay=0.001)
    report = simulate(quiet, [Request(float(n), "a") for n in range(5)])
    assert (report.good, report.batches) == (5, 5)
    assert report.latency["p99"] == pytest.approx(MODEL.curve.seconds(1) + 0.002)


def test_models_take_turns_on_a_workers_core() -> None:
    both = Scenario({"a": MODEL, "b": MODEL}, noise=Noise(0.0, 0.0), delay=0.0)
    report = simulate(both, [Request(0.0, "a"), Request(0.0, "b")])
    assert report.latency["p99"] == pytest.approx(2 * MODEL.curve.seconds(1))


def test_a_scenario_without_a_worker_is_refused() -> None:
    with pytest.raises(InvalidInput):
        simulate(Scenario({"a": MODEL}, workers=0), [])


@pytest.mark.parametrize(("shape", "variation"), [(Shape.poisson, 1.0), (Shape.bursty, 4.0)])
def test_arrivals_have_the_rate_and_the_variation_that_they_should(shape: Shape, variation: float) -> None:

    found = list(times(shape, 100.0, 1000.0, Random(3)))
    gaps = [b - a for a, b in pairwise(found)]
    assert len(found) / 1000 == pytest.approx(100, rel=0.05)
    assert pstdev(gaps) / fmean(gaps) == pytest.approx(variation, rel=0.1)


def test_shares_fall_with_rank() -> None:
    assert zipf(3, 1.0) == pytest.approx([6 / 11, 3 / 11, 2 / 11])


def test_a_trace_comes_back_as_it_was_written(tmp_path: Path) -> None:
    trace = [Request(0.25, "a", 2, 0.1, 1), Request(1.5, "b", 1, inf)]
    write(tmp_path / "t.csv", trace)
    assert read(tmp_path / "t.csv", inf) == trace


@pytest.mark.parametrize("text", ["when\n1\n", "seconds,rows\n1,none\n", "seconds\n-1\n", "seconds,rows\n1,0\n"])
def test_a_bad_trace_is_refused_by_name(tmp_path: Path, text: str) -> None:
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(InvalidInput, match=r"t\.csv"):
        read(tmp_path / "t.csv", 0.1)
    with pytest.raises(NotFound):
        read(tmp_path / "absent.csv", 0.1)


def test_a_curve_is_a_name_or_points() -> None:
    assert parse("1:0.004,8:0.010").seconds(8) == 0.010
    assert parse("ranker") is CURVES["ranker"]
    for text in ("nobody", "1:0.1,1:0.2", "2:0.2,4:0.1", "1:-1"):
        with pytest.raises(InvalidInput):
            parse(text)
