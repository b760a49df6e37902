"""Starts and stops a scheduler process; the only place where its parts are made."""

import asyncio
import os
import random
import uuid
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from infermesh.mesh import channel, server
from infermesh.mesh.backoff import Backoff
from infermesh.mesh.clock import Clock, SystemClock
from infermesh.mesh.config import load
from infermesh.mesh.metrics import SchedulerMetrics
from infermesh.mesh.process import Process, run
from infermesh.scheduler.config import SchedulerConfig
from infermesh.scheduler.control import Control, settling_time
from infermesh.scheduler.desired import DesiredWatcher
from infermesh.scheduler.fleet import Fleet
from infermesh.scheduler.placement import POLICIES
from infermesh.scheduler.placement.base import PlacementPolicy
from infermesh.scheduler.renewal import Renewal
from infermesh.scheduler.reporter import Reporter
from infermesh.scheduler.servicer import Servicer
from infermesh.v1.scheduler_service_pb2_grpc import add_SchedulerServiceServicer_to_server
from infermesh.v1.state_service_pb2_grpc import StateServiceStub


async def main(argv: Sequence[str]) -> None:
    """Runs a scheduler until SIGTERM. Raises ConfigError for a bad setting."""
    config = load(SchedulerConfig, argv, os.environ, room="scheduler")
    policy = POLICIES.load(config.placement)()
    async with Process("scheduler", config.process) as process:
        metrics, clock = SchedulerMetrics(process.metrics), SystemClock()
        control = _control(config, policy, clock)
        renewal = Renewal(control, config.heartbeat_interval, clock, metrics)
        async with _working(config, renewal, clock, metrics):
            grpc_server = process.create_server()
            servicer = Servicer(renewal, control.fleet, config.heartbeat_interval)
            add_SchedulerServiceServicer_to_server(servicer, grpc_server)  # type: ignore[no-untyped-call]
            await process.ready(grpc=await server.bind(grpc_server, config.listen))
            await process.until_stopped()
            renewal.routes.close()
            await server.drain(grpc_server, config.process.drain.timeout)


def _control(config: SchedulerConfig, policy: PlacementPolicy, clock: Clock) -> Control:
    now = clock.time()
    fleet = Fleet(config.heartbeat_interval, now)
    return Control(fleet, policy, epoch=uuid.uuid4().hex, settled_at=now + settling_time(config.heartbeat_interval))


@asynccontextmanager
async def _working(
    config: SchedulerConfig, renewal: Renewal, clock: Clock, metrics: SchedulerMetrics
) -> AsyncIterator[None]:
    """Follows the registry, plans and reports while the context is open."""
    async with channel.connect(config.registry) as registry, asyncio.TaskGroup() as group:
        stub = StateServiceStub(registry)  # type: ignore[no-untyped-call]
        interval = config.report_interval
        reporter = Reporter(stub.ReportDeployments, renewal.reports, interval, clock, Backoff(random.random))

        def connected(yes: bool) -> None:
            metrics.registry_connected.set(yes)
            if yes:
                reporter.again()

        watcher = DesiredWatcher(stub.WatchDesired, renewal.want, connected, clock, Backoff(random.random))
        tasks = [group.create_task(part.run()) for part in (renewal, watcher, reporter)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


def cli() -> int:
    """Runs the scheduler with the command line of this process; returns its exit status."""
    return run(main)
