"""What every placement policy keeps to; ours by name, a fake like a third party's by entry point."""

import math
from importlib.metadata import EntryPoint

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh.errors import ConfigError
from infermesh.mesh import extensions
from infermesh.scheduler.model import Worker
from infermesh.scheduler.placement import POLICIES
from infermesh.scheduler.placement.base import Candidate, Need, PlacementPolicy
from infermesh.scheduler.planner import plan
from tests.unit.scheduler.build import deployment, desired, worker
from tests.unit.scheduler.build import given as given_to


class ByName:
    """A policy as a plug-in may bring: prefers the worker whose name is longest."""

    def score(self, need: Need, candidate: Candidate) -> tuple[float, ...]:
        return (len(candidate.worker),)


FACTORIES = [*(POLICIES.load(name) for name in ("spread", "binpack")), ByName]
NEED = Need("d", "1", 10)
needs = st.builds(Need, st.just("d"), st.just("1"), st.integers(0, 1 << 40))
sizes = st.integers(0, 1 << 40)
candidates = st.builds(
    Candidate, st.sampled_from(["w1", "worker-2"]), sizes, sizes, st.integers(0, 1000), st.integers(0, 9)
)


@pytest.fixture(params=FACTORIES, ids=lambda factory: factory.__name__)
def policy(request: pytest.FixtureRequest) -> PlacementPolicy:
    made: PlacementPolicy = request.param()
    return made


class TestContract:
    @pytest.mark.parametrize("factory", FACTORIES)
    @given(need=needs, one=candidates, other=candidates)
    def test_scores_compare(self, factory: type[PlacementPolicy], need: Need, one: Candidate, other: Candidate) -> None:
        policy = factory()
        first, second = policy.score(need, one), policy.score(need, other)
        assert len(first) == len(second)
        assert not any(math.isnan(part) for part in (*first, *second))

    @pytest.mark.parametrize("factory", FACTORIES)
    @given(need=needs, candidate=candidates)
    def test_scores_depend_on_nothing_else(
        self, factory: type[PlacementPolicy], need: Need, candidate: Candidate
    ) -> None:
        policy = factory()
        first = policy.score(need, candidate)
        policy.score(Need("x", "9", 1), candidate)
        assert policy.score(need, candidate) == first == factory().score(need, candidate)

    def test_the_planner_can_use_it(self, policy: PlacementPolicy) -> None:
        workers = [worker("w1"), worker("w2"), worker("w3", memory=0)]
        result = given_to(plan(desired(deployment("a", replicas=2), deployment("b")), workers, policy))
        assert sorted(target for targets in result.values() for target in targets) == ["a/1", "a/1", "b/1"]

    def test_ties_go_to_the_first_worker(self, policy: PlacementPolicy) -> None:
        twins: list[Worker] = [worker("w2"), worker("w1")]
        assert given_to(plan(desired(deployment()), twins, policy)) == {"w1": ["d/1"], "w2": []}


class TestTable:
    def test_ours_are_named(self) -> None:
        assert {"spread", "binpack"} <= set(POLICIES.names())

    def test_an_unknown_one_is_refused_naming_the_known(self) -> None:
        with pytest.raises(ConfigError, match=r"placement policy: expected one of binpack, spread, got 'dice'"):
            POLICIES.load("dice")

    def test_a_third_partys_is_found_by_entry_point(self, monkeypatch: pytest.MonkeyPatch) -> None:
        point = EntryPoint("by-name", f"{__name__}:ByName", "infermesh.placement")
        found = {"infermesh.placement": [point]}
        monkeypatch.setattr(extensions, "entry_points", lambda group: found.get(group, []))
        assert POLICIES.load("by-name") is ByName


class TestSpread:
    policy = POLICIES.load("spread")()

    def prefers(self, better: Candidate, worse: Candidate) -> bool:
        return self.policy.score(NEED, better) > self.policy.score(NEED, worse)

    def test_a_worker_without_siblings(self) -> None:
        assert self.prefers(Candidate("w", 100, 80, 9, 0), Candidate("w", 100, 0, 0, 1))

    def test_the_emptier_worker(self) -> None:
        assert self.prefers(Candidate("w", 1000, 500, 9, 0), Candidate("w", 100, 60, 0, 0))

    def test_the_idler_worker_where_memory_is_not_limited(self) -> None:
        assert self.prefers(Candidate("w", 0, 900, 1, 0), Candidate("w", 0, 0, 2, 0))


class TestBinpack:
    policy = POLICIES.load("binpack")()

    def prefers(self, better: Candidate, worse: Candidate) -> bool:
        return self.policy.score(NEED, better) > self.policy.score(NEED, worse)

    def test_the_fuller_worker(self) -> None:
        assert self.prefers(Candidate("w", 100, 80, 0, 0), Candidate("w", 1000, 80, 9, 0))

    def test_the_busier_worker_where_memory_is_not_limited(self) -> None:
        assert self.prefers(Candidate("w", 0, 0, 2, 0), Candidate("w", 0, 900, 1, 0))

    def test_a_worker_with_limited_memory_before_one_without(self) -> None:
        assert self.prefers(Candidate("w", 100, 0, 0, 0), Candidate("w", 0, 0, 9, 0))
