"""Warm-up: batches of growing size, within a budget of virtual time."""

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.v1 import model_pb2
from infermesh.worker import warmup


class Machine:
    """A model whose time is known, on a clock of its own."""

    def __init__(self, base: float, per_row: float, first: float = 0.0) -> None:
        self.now = 0.0
        self.rows: list[int] = []
        self._base, self._per_row, self._first = base, per_row, first

    def clock(self) -> float:
        return self.now

    def run(self, feed: warmup.Feed) -> None:
        rows = len(feed["x"])
        self.now += self._base + self._per_row * rows + (self._first if rows not in self.rows else 0)
        self.rows.append(rows)


FEED = {"x": np.arange(6, dtype=np.float32).reshape(2, 3)}


@pytest.mark.parametrize(
    ("limit", "sizes"),
    [(0, [1]), (1, [1]), (2, [1, 2]), (3, [1, 2, 3]), (8, [1, 2, 4, 8]), (10, [1, 2, 4, 8, 10])],
)
def test_sizes_double_up_to_the_limit(limit: int, sizes: list[int]) -> None:
    assert warmup.batch_sizes(limit) == sizes


def test_times_are_those_of_the_model_without_the_first_call() -> None:
    machine = Machine(0.001, 0.0005, first=0.01)
    times = warmup.measure(machine.run, FEED, 8, 1.0, machine.clock)
    assert [rows for rows, _ in times] == [1, 2, 4, 8]
    assert [seconds for _, seconds in times] == pytest.approx([0.0015, 0.002, 0.003, 0.005])


def test_a_slow_model_is_measured_once_and_no_further() -> None:
    machine = Machine(5.0, 0.0)
    assert warmup.measure(machine.run, FEED, 64, 1.0, machine.clock) == ((1, 5.0),)
    assert machine.rows == [1]


@given(st.floats(1e-5, 0.2), st.floats(0, 0.1), st.integers(1, 300))
def test_the_budget_bounds_the_time(base: float, per_row: float, limit: int) -> None:
    machine = Machine(base, per_row)
    times = warmup.measure(machine.run, FEED, limit, 1.0, machine.clock)
    # the last size was expected to fit; one execution more may have begun before the end
    assert machine.now <= 1.0 + 2 * (base + per_row * times[-1][0]) + 1e-6
    assert all(seconds == pytest.approx(base + per_row * rows, rel=1e-3, abs=1e-9) for rows, seconds in times)


def test_models_without_batches_get_their_input_as_it_is() -> None:
    seen: list[Any] = []
    machine = Machine(0.1, 0.0)

    def run(feed: warmup.Feed) -> None:
        seen.append(feed["x"].shape)
        machine.run(feed)

    warmup.measure(run, FEED, 0, 0.3, machine.clock)
    assert set(seen) == {(2, 3)}


@given(st.integers(1, 5), st.integers(1, 40))
def test_tiles_repeat_the_rows(have: int, rows: int) -> None:
    feed = {"x": np.arange(have), "y": np.arange(have * 2).reshape(have, 2)}
    tiled = warmup.tile(feed, rows)
    assert tiled["x"].tolist() == [at % have for at in range(rows)]
    assert tiled["y"].shape == (rows, 2)
    tiled["x"][:] = -1
    assert feed["x"].tolist() == list(range(have))


def test_zeros_follow_the_signature() -> None:
    signature = model_pb2.Signature()
    for name, datatype, shape in (("a", "FP32", [-1, 4]), ("b", "BYTES", [-1, -1]), ("c", "BF16", [2])):
        signature.inputs.add(name=name, datatype=datatype, shape=shape)
    feed = warmup.zeros(signature)
    assert {name: (array.shape, array.dtype.name) for name, array in feed.items()} == {
        "a": ((1, 4), "float32"),
        "b": ((1, 1), "object"),
        "c": ((2,), "uint16"),
    }
    assert feed["b"][0, 0] == b""


def test_thread_choices_double_up_to_the_limit() -> None:
    assert [warmup.thread_choices(limit) for limit in (1, 2, 6, 8)] == [[1], [1, 2], [1, 2, 4, 6], [1, 2, 4, 8]]


@pytest.mark.parametrize(("two", "best"), [(0.95, 1), (0.5, 2), (1.2, 1)], ids=["hardly", "faster", "slower"])
def test_threads_must_pay(two: float, best: int) -> None:
    assert warmup.best_threads({1: 1.0, 2: two}) == best


def test_each_number_of_threads_must_pay_over_the_best_below() -> None:
    assert warmup.best_threads({8: 0.4, 1: 1.0, 2: 0.5, 4: 0.45}) == 8
    assert warmup.best_threads({8: 0.45, 1: 1.0, 2: 0.5, 4: 0.45}) == 2


def test_threads_are_compared_at_the_largest_size_that_all_reached() -> None:
    assert warmup.largest_common([((1, 1.0), (2, 1.5)), ((1, 0.9), (2, 0.8), (4, 1.1))]) == (2, [1.5, 0.8])


class Cores:
    """A model that each thread makes faster, on a machine that is disturbed until some time."""

    def __init__(self, disturbed_until: float, seconds: dict[int, float]) -> None:
        self.now, self.threads, self.used = 0.0, 0, list[int]()
        self._until, self._seconds = disturbed_until, seconds

    def clock(self) -> float:
        return self.now

    def use(self, threads: int) -> None:
        self.threads = threads
        self.used.append(threads)

    def run(self) -> None:
        held_up = self.threads > 1 and self.now < self._until
        self.now += self._seconds[1] if held_up else self._seconds[self.threads]


def test_threads_that_were_disturbed_have_another_chance() -> None:
    cores = Cores(0.8, {1: 0.17, 2: 0.1})  # the first time that two have their turn something is still there
    times = warmup.race(cores.use, cores.run, {1: 0.17, 2: 0.16}, 2.0, cores.clock)
    assert times == pytest.approx({1: 0.17, 2: 0.1})
    assert warmup.best_threads(times) == 2
    assert cores.used[:4] == [2, 1, 1, 2]


def test_threads_that_have_no_chance_and_turns_that_have_no_time_are_left_out() -> None:
    cores = Cores(0.0, {1: 0.1, 2: 0.11, 4: 0.2})
    measured = {1: 0.1, 2: 0.12, 4: 0.2}
    assert warmup.race(cores.use, cores.run, measured, 0.5, cores.clock) == pytest.approx({1: 0.1, 2: 0.11, 4: 0.2})
    assert cores.used == [2, 1]  # a second turn would not end within half a second
    assert warmup.race(cores.use, cores.run, {1: 0.6, 2: 0.7}, 1.0, cores.clock) == {1: 0.6, 2: 0.7}
    assert warmup.race(cores.use, cores.run, {1: 0.1, 2: 0.2}, 1.0, cores.clock) == {1: 0.1, 2: 0.2}  # clear already
    assert cores.used == [2, 1]


def test_small_sizes_leave_time_for_large_ones() -> None:
    machine = Machine(
        0.005, 0.01
    )  # an encoder: half a second would be gone with seven repeats of each of the first three
    times = warmup.measure(machine.run, FEED, 64, 0.5, machine.clock)
    assert times[-1][0] == 8
    assert all(machine.rows.count(rows) >= 2 for rows, _ in times)  # the first run of a size does not count
