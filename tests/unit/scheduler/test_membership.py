"""Which pools calls count to."""

from dataclasses import replace
from math import inf

from infermesh.scheduler.demand import Demand, Load, Waiting
from infermesh.scheduler.membership import Pool, PoolDemand
from infermesh.scheduler.model import Deployment, Worker
from infermesh.scheduler.pools import PoolConfig
from tests.unit.scheduler.build import deployment, ready, version, worker

ZERO = PoolConfig(autoscaling="keda", min=0)


def member(id: str, pool: str, *held: str, device: str = "cpu", draining: bool = False) -> Worker:
    return replace(worker(id, *ready(*held), device=device, draining=draining), pool=pool)


def look(
    name: str, demand: Demand, deployments: list[Deployment], *workers: Worker, config: PoolConfig = ZERO
) -> PoolDemand:
    return Pool(name, config, workers).demand(demand, {item.id: item for item in deployments})


def waiting(*names: str, wait: float = 0.0) -> Demand:
    return Demand(True, {name: Waiting(2, 2, wait) for name in names}, dict.fromkeys(names, 7.0))


def test_a_deployment_that_names_its_pool_counts_to_that_one() -> None:
    wanted = replace(deployment("d"), pool="gpu")
    workers = [member("a", "cpu"), member("b", "gpu")]
    assert look("cpu", waiting("d"), [wanted], *workers).rows == 0
    assert look("gpu", waiting("d"), [wanted], *workers).rows == 2


def test_any_other_counts_to_every_pool_that_suits() -> None:
    wanted = deployment("d", device="cuda")
    workers = [member("a", "cpu"), member("b", "gpu", device="cuda")]
    assert look("cpu", waiting("d"), [wanted], *workers).rows == 0
    assert look("gpu", waiting("d"), [wanted], *workers).rows == 2


def test_a_pool_without_workers_counts_by_its_configured_device_if_it_starts_some() -> None:
    wanted = deployment("d", device="cuda")
    assert look("gpu", waiting("d"), [wanted], config=replace(ZERO, device="cuda")).rows == 2
    assert look("cpu", waiting("d"), [wanted], config=ZERO).rows == 0
    assert look("gpu", waiting("d"), [wanted], config=PoolConfig(device="cuda")).rows == 0
    assert look("any", waiting("d"), [deployment("d")], config=ZERO).rows == 2


def test_workers_that_are_draining_are_no_longer_of_the_pool() -> None:
    demand = Demand(True, loads={"a": Load(3, 0.5), "b": Load(4, 1.0)})
    seen = look("cpu", demand, [], member("a", "cpu"), member("b", "cpu", draining=True))
    assert (seen.workers, seen.busy, seen.in_flight) == (1, 0.5, 3)


def test_loads_are_summed_over_the_workers_of_the_pool() -> None:
    demand = Demand(True, loads={"a": Load(3, 0.5), "b": Load(4, 1.0), "c": Load(9, 1.0)})
    seen = look("cpu", demand, [], member("a", "cpu"), member("b", "cpu"), member("c", "gpu"), member("d", "cpu"))
    assert (seen.workers, seen.busy, seen.in_flight) == (3, 1.5, 7)


def test_the_longest_wait_counts() -> None:
    demand = Demand(True, {"d": Waiting(1, 1, 0.5), "e": Waiting(1, 1, 3.0), "f": Waiting(1, 1, 9.0)})
    wanted = [deployment("d"), deployment("e"), replace(deployment("f"), pool="gpu")]
    assert look("cpu", demand, wanted, member("a", "cpu")).wait == 3.0


def test_a_pool_is_used_by_what_its_workers_hold() -> None:
    demand = Demand(True, used={"d": 5.0, "e": 9.0})
    wanted = [deployment("d"), deployment("e")]
    assert look("cpu", demand, wanted, member("a", "cpu", "d/1")).used == 5.0
    assert look("cpu", demand, wanted, member("a", "cpu")).used == -inf
    assert look("cpu", demand, [replace(wanted[0], pool="cpu")]).used == 5.0


def test_a_deployment_that_is_gone_counts_nowhere() -> None:
    assert look("cpu", waiting("gone"), [], member("a", "cpu")) == PoolDemand(True, 1)


def test_every_target_of_a_deployment_may_bring_it_to_a_pool() -> None:
    versions = [version("1", device="cuda"), version("2")]
    wanted = deployment("d", ["1", "2"], versions=versions)
    assert look("cpu", waiting("d"), [wanted], member("a", "cpu")).rows == 2
    only = deployment("d", ["1"], versions=versions)
    assert look("cpu", waiting("d"), [only], member("a", "cpu")).rows == 0
