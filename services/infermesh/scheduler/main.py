"""Starts and stops a scheduler process; the only place where its parts are made."""

import asyncio
import os
import random
import socket
import uuid
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Protocol

from infermesh.mesh import channel
from infermesh.mesh.backoff import Backoff
from infermesh.mesh.clock import Clock, SystemClock
from infermesh.mesh.config import load
from infermesh.mesh.metrics import PoolMetrics, SchedulerMetrics
from infermesh.mesh.process import Process, run
from infermesh.scheduler import scaler_servicer
from infermesh.scheduler.config import SchedulerConfig
from infermesh.scheduler.control import Control, settling_time
from infermesh.scheduler.cost_writer import CostWriter
from infermesh.scheduler.desired import DesiredWatcher
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.leadership.always import Always
from infermesh.scheduler.leadership.base import Leadership
from infermesh.scheduler.leadership.candidate import Candidate
from infermesh.scheduler.leadership.election import Election
from infermesh.scheduler.leadership.fence import Fence
from infermesh.scheduler.placement import POLICIES
from infermesh.scheduler.placement.base import PlacementPolicy
from infermesh.scheduler.renewal import Renewal
from infermesh.scheduler.replicas import Replicas
from infermesh.scheduler.reporter import Reporter
from infermesh.scheduler.scaler_servicer import ScalerServicer
from infermesh.scheduler.scaling import Scaling
from infermesh.scheduler.servicer import Servicer
from infermesh.scheduler.term import Reign, Term
from infermesh.scheduler.workloads import Workloads
from infermesh.v1.scheduler_service_pb2_grpc import add_SchedulerServiceServicer_to_server
from infermesh.v1.state_service_pb2_grpc import StateServiceStub


class Part(Protocol):
    """Something that a term runs."""

    async def run(self) -> None:
        """Works until cancelled."""
        ...


async def main(argv: Sequence[str]) -> None:
    """Runs a scheduler until SIGTERM. Raises ConfigError for a bad setting."""
    config = load(SchedulerConfig, argv, os.environ, room="scheduler")
    policy = POLICIES.load(config.placement)()
    clock = SystemClock()
    leadership, workloads = _leadership(config, clock), _workloads(config)
    async with Process("scheduler", config.process) as process:
        metrics = SchedulerMetrics(process.metrics)

        def begin() -> AbstractAsyncContextManager[Term]:
            return _term(config, policy, process, leadership, workloads, clock, metrics)

        if config.leadership != "none":
            await process.ready()  # to stand by is service enough: a rollout need not wait for the lead
        await Reign(leadership, begin, metrics, config.process.drain.timeout).run(process)


def _leadership(config: SchedulerConfig, clock: Clock) -> Leadership:
    if config.leadership == "none":
        return Always()
    # here, since it takes a second and 30 MiB
    from infermesh.scheduler.leadership.kubernetes_lease import lease_of_cluster

    lease = config.lease
    identity = f"{lease.identity or socket.gethostname()}_{uuid.uuid4()}"  # one that restarts is another
    candidate = Candidate(identity, lease.duration, lease.renew_deadline)
    return Election(lease_of_cluster(lease), candidate, lease.retry, clock, random.random)


def _workloads(config: SchedulerConfig) -> Workloads | None:
    if not config.deletion_cost and all(pool.autoscaling != "builtin" for pool in config.pools.values()):
        return None
    from infermesh.scheduler.kubernetes_workloads import workloads_of_cluster

    return workloads_of_cluster(config.lease)


@asynccontextmanager
async def _term(
    config: SchedulerConfig,
    policy: PlacementPolicy,
    process: Process,
    leadership: Leadership,
    workloads: Workloads | None,
    clock: Clock,
    metrics: SchedulerMetrics,
) -> AsyncIterator[Term]:
    """Makes anew all that only the leader has, and ends it at once when the context is left."""
    control = _control(config, policy, clock)
    renewal = Renewal(control, config.heartbeat_interval, clock, metrics)
    scaling = Scaling(control, config.pools, clock, metrics.pools)
    term = Term(renewal.routes.close, scaling.close)
    parts: list[Part] = [scaling]
    if workloads is not None:
        parts += _acting(config, workloads, scaling, control.fleet, leadership, clock, metrics.pools)
    async with _working(config, process, renewal, parts, clock, metrics):
        grpc_server = process.create_server(interceptors=[Fence(leadership.holds)])
        servicer = Servicer(renewal, control.fleet, config.heartbeat_interval, scaling.hear)
        add_SchedulerServiceServicer_to_server(servicer, grpc_server)  # type: ignore[no-untyped-call]
        try:
            addresses = {"grpc": await term.serve(grpc_server, config.listen, process.certificates)}
            if config.scaler_listen:
                # without certificates: KEDA has none of ours
                scaler_server = process.create_server(interceptors=[Fence(leadership.holds)])
                scaler_servicer.add_to_server(ScalerServicer(config.pools, scaling.signals, clock), scaler_server)
                addresses["scaler"] = await term.serve(scaler_server, config.scaler_listen)
            await process.ready(**addresses)
            yield term
        finally:
            await term.end(0)


def _control(config: SchedulerConfig, policy: PlacementPolicy, clock: Clock) -> Control:
    now = clock.time()
    fleet = Fleet(config.heartbeat_interval, now)
    return Control(
        fleet,
        policy,
        epoch=uuid.uuid4().hex,
        settled_at=now + settling_time(config.heartbeat_interval),
        from_zero={name: pool.device for name, pool in config.pools.items() if pool.from_zero},
    )


@asynccontextmanager
async def _working(
    config: SchedulerConfig,
    process: Process,
    renewal: Renewal,
    parts: Sequence[Part],
    clock: Clock,
    metrics: SchedulerMetrics,
) -> AsyncIterator[None]:
    """Follows the registry, plans and reports, and runs `parts`, while the context is open."""
    connection = channel.connect(config.registry, process.certificates)
    async with connection as registry, asyncio.TaskGroup() as group:
        stub = StateServiceStub(registry)  # type: ignore[no-untyped-call]
        interval = config.report_interval
        reporter = Reporter(stub.ReportDeployments, renewal.reports, interval, clock, Backoff(random.random))

        def connected(yes: bool) -> None:
            metrics.registry_connected.set(yes)
            if yes:
                reporter.again()

        watcher = DesiredWatcher(stub.WatchDesired, renewal.want, connected, clock, Backoff(random.random))
        running: list[Part] = [renewal, watcher, reporter, *parts]
        tasks = [group.create_task(part.run()) for part in running]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def _acting(
    config: SchedulerConfig,
    workloads: Workloads,
    scaling: Scaling,
    fleet: Fleet,
    leadership: Leadership,
    clock: Clock,
    metrics: PoolMetrics,
) -> Iterator[Part]:
    """Yields what acts on pools through the API of the cluster."""

    def slowly() -> Backoff:
        return Backoff(random.random, first=1.0, most=10.0)

    demand, holds = scaling.demand, leadership.holds
    costs = CostWriter(fleet, demand, workloads, may_act=holds, clock=clock, backoff=slowly())
    if config.deletion_cost:
        yield costs
    for name, pool in config.pools.items():
        if pool.autoscaling == "builtin":
            yield Replicas(
                name,
                pool,
                scaling.signals[name],
                workloads,
                may_act=holds,
                before_fewer=costs.refresh if config.deletion_cost else None,
                clock=clock,
                backoff=slowly(),
                metrics=metrics,
            )


def cli() -> int:
    """Runs the scheduler with the command line of this process; returns its exit status."""
    return run(main)
