"""What the scheduler decides when: before it knows enough, after, and after a restart. Time is an argument."""

import pytest

from infermesh.mesh import channel
from infermesh.scheduler.control import Control, settling_time
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.model import Desired, Worker
from infermesh.scheduler.placement.base import Candidate, Need
from infermesh.scheduler.placement.spread import Spread
from infermesh.v1.deployment_pb2 import Deployment
from tests.unit.scheduler.build import deployment, desired, ready, version, worker


def control(now: float = 0.0) -> Control:
    return Control(Fleet(1.0, now), Spread(), epoch="e", settled_at=now + 2.0)


def hear(mind: Control, now: float, *workers: Worker) -> None:
    for each in workers:
        mind.hear(each, now, leaving=False)
    if mind.is_due(now):
        mind.renew()


def given(mind: Control, each: Worker) -> list[str] | None:
    assignments = mind.assignments(each)
    if assignments is None:
        return None
    return [f"{item.deployment}/{item.version.rpartition('/')[2]}" for item in assignments]


WANTED = desired(deployment())


class TestBeforeEnoughIsKnown:
    def test_nothing_is_decided_while_it_is_unknown_what_is_wanted(self) -> None:
        mind = control()
        hear(mind, 100.0, worker("w1", *ready("d/1")))
        assert not mind.is_authoritative(100.0)
        assert given(mind, worker("w1")) is None
        assert mind.routes is None
        assert not mind.reports

    def test_nothing_is_decided_before_workers_had_time_to_be_heard(self) -> None:
        mind = control()
        mind.want(WANTED)
        hear(mind, 1.9, worker("w1"))
        assert given(mind, worker("w1")) is None
        hear(mind, 2.0, worker("w1"))
        assert given(mind, worker("w1")) == ["d/1"]

    def test_that_nothing_is_wanted_is_knowledge(self) -> None:
        mind = control()
        mind.want(Desired())
        hear(mind, 2.0, worker("w1", *ready("d/1")))
        assert given(mind, worker("w1")) == []
        assert mind.routes is not None


class TestAfterwards:
    @pytest.fixture
    def mind(self) -> Control:
        made = control()
        made.want(WANTED)
        hear(made, 2.0, worker("w1", *ready("d/1")), worker("w2"))
        return made

    def test_a_worker_that_the_plan_has_not_seen_keeps_what_it_has(self, mind: Control) -> None:
        """It was thought lost, has work, and must not be told to drop it before it is counted."""
        late = worker("w3", *ready("d/1"))
        mind.hear(late, 3.0, leaving=False)
        assert given(mind, late) is None
        mind.renew()
        assert given(mind, late) == []

    def test_a_new_process_under_the_name_keeps_what_it_has_until_the_plan_has_seen_it(self, mind: Control) -> None:
        young = Worker(id="w1", incarnation="young", address="a:1")
        mind.hear(young, 3.0, leaving=False)
        assert given(mind, young) is None

    def test_a_process_that_was_replaced_is_told_nothing(self, mind: Control) -> None:
        hear(mind, 3.0, Worker(id="w1", incarnation="young", address="a:1"))
        assert given(mind, worker("w1")) is None

    def test_what_is_no_longer_wanted_is_answered_from_the_last_plan_until_the_next(self, mind: Control) -> None:
        mind.want(Desired())
        assert given(mind, worker("w1")) == ["d/1"]
        mind.renew()
        assert given(mind, worker("w1")) == []

    def test_nothing_new_makes_no_new_plan(self, mind: Control) -> None:
        mind.hear(worker("w2"), 2.5, leaving=False)
        assert not mind.expire(2.5)
        assert not mind.is_due(2.5)

    @pytest.mark.parametrize("change", ["wanted", "heard", "left", "lost"])
    def test_whatever_is_new_makes_one(self, mind: Control, change: str) -> None:
        if change == "wanted":
            mind.want(WANTED)
        elif change == "heard":
            mind.hear(worker("w2", draining=True), 3.0, leaving=False)
        elif change == "left":
            mind.hear(worker("w2"), 3.0, leaving=True)
        else:
            for quarter in range(13):
                mind.expire(2.0 + quarter / 4)
        assert mind.is_due(6.0)

    def test_a_lost_worker_leaves_the_routes_and_its_work_moves(self, mind: Control) -> None:
        mind.hear(worker("w1"), 2.5, leaving=True)
        mind.renew()
        assert given(mind, worker("w2")) == ["d/1"]
        assert mind.routes is not None
        assert [each.id for each in mind.routes.workers] == []
        assert mind.reports[0].state == Deployment.DEPLOYING

    def test_a_policy_that_fails_leaves_all_as_it_was(self) -> None:
        class Broken:
            calls = 0

            def score(self, need: Need, candidate: Candidate) -> tuple[float, ...]:
                raise ZeroDivisionError

        mind = Control(Fleet(1.0, 0.0), Broken(), epoch="e", settled_at=0.0)
        mind.want(Desired())
        hear(mind, 0.0, worker("w1"))
        routes = mind.routes
        mind.want(WANTED)
        with pytest.raises(ZeroDivisionError):
            mind.renew()
        assert mind.routes is routes
        assert mind.is_due(0.0)


def test_a_former_target_stands_in_though_the_registry_no_longer_lists_it() -> None:
    """It lists the newest versions only; many were pushed since this one was deployed."""
    mind = control()
    mind.want(desired(deployment(targets=["1"], versions=[version("1")])))
    hear(mind, 2.0, worker("w1", *ready("d/1")))
    mind.want(desired(deployment(targets=["20"], versions=[version("20")])))
    mind.renew()
    assert given(mind, worker("w1")) == ["d/1", "d/20"]
    assert mind.routes is not None
    assert [share.version for share in mind.routes.deployments[0].traffic] == ["1"]


class TestReports:
    def test_they_are_of_the_generation_that_was_looked_at(self) -> None:
        mind = control()
        mind.want(desired(deployment(targets=["1"], generation=1)))
        hear(mind, 2.0, worker("w1", *ready("d/1")))
        assert (mind.reports[0].generation, mind.reports[0].state) == (1, Deployment.ACTIVE)
        mind.want(desired(deployment(targets=["2"], generation=2)))
        mind.renew()
        assert (mind.reports[0].generation, mind.reports[0].state) == (2, Deployment.DEPLOYING)


class TestRestart:
    """A new scheduler knows nothing; workers go on sending heartbeats."""

    WORKERS = tuple(worker(f"w{n}", *ready(f"d{n}/1", f"d{n + 1}/1")) for n in range(4))
    WANTED = desired(*(deployment(f"d{n}", replicas=1 if n in (0, 4) else 2) for n in range(5)))

    def test_it_moves_nothing_when_all_are_heard_in_time(self) -> None:
        mind = control(50.0)
        mind.want(self.WANTED)
        for second in (50.1, 51.1, 52.1):
            hear(mind, second, *self.WORKERS)
        for each in self.WORKERS:
            assert given(mind, each) == [item.target for item in each.held]

    def test_the_first_workers_heard_are_not_given_what_others_hold(self) -> None:
        mind = control(50.0)
        mind.want(self.WANTED)
        hear(mind, 50.1, self.WORKERS[0])
        assert given(mind, self.WORKERS[0]) is None
        hear(mind, 51.9, *self.WORKERS[1:])
        hear(mind, 52.0, self.WORKERS[0])
        assert given(mind, self.WORKERS[0]) == ["d0/1", "d1/1"]

    def test_the_first_routes_are_whole(self) -> None:
        """Gateways keep the old ones until then, so none of them ever sees a mesh that is half there."""
        mind = control(50.0)
        mind.want(self.WANTED)
        hear(mind, 51.0, *self.WORKERS)
        assert mind.routes is None
        hear(mind, 52.0, *self.WORKERS)
        assert mind.routes is not None
        assert all(route.traffic for route in mind.routes.deployments)
        assert {report.state for report in mind.reports} == {Deployment.ACTIVE}


@pytest.mark.parametrize("interval", [0.1, 1.0, 10.0])
def test_settling_outlasts_a_channel_that_looks_again_and_one_missed_heartbeat(interval: float) -> None:
    longest = dict(channel.OPTIONS)["grpc.max_reconnect_backoff_ms"] / 1000
    assert settling_time(interval) > longest + interval
