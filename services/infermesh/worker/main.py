"""Composition root of the worker: builds everything, connects it, and takes it down in the right order."""

import asyncio
import contextlib
import os
import re
import socket
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import grpc.aio
import structlog

from infermesh.errors import ConfigError, InvalidInput
from infermesh.mesh import garbage, heap
from infermesh.mesh.channel import connect
from infermesh.mesh.clock import Clock, SystemClock
from infermesh.mesh.config import load
from infermesh.mesh.http2.server import Server, accepting
from infermesh.mesh.process import Process, run
from infermesh.mesh.server import bind, drain
from infermesh.names import check_id
from infermesh.v1 import model_pb2, worker_pb2
from infermesh.worker import backends, device, oip_servicer, servicer
from infermesh.worker.agent import Agent, Identity
from infermesh.worker.artifacts import ArtifactCache
from infermesh.worker.config import WorkerConfig
from infermesh.worker.device import DeviceInfo
from infermesh.worker.device_watch import DeviceWatch
from infermesh.worker.holding import Holding, Tools
from infermesh.worker.last_known import LastKnown, RememberingSource
from infermesh.worker.measures import Measures
from infermesh.worker.runner import Runner, RunnerSpec
from infermesh.worker.scheduler_link import SchedulerLink
from infermesh.worker.serving import Serving
from infermesh.worker.source import RegistrySource, Source
from infermesh.worker.turns import Turns

_SETTLE = 0.3  # seconds that what gateways sent before they heard of the drain may take to arrive
_PARTING = 5.0  # seconds that gateways may take to read their last results and go
_GOODBYE = 2.0  # seconds that the last heartbeat may take
_SMALL = 32 << 20  # bytes of files below which one thread is the quickest


async def main(argv: Sequence[str]) -> None:
    """Runs a worker until SIGTERM."""
    config = load(WorkerConfig, argv, os.environ, room="worker")
    name = _id(config)
    heap.keep_freed()
    detect = partial(device.detect, config.device)
    info = await asyncio.to_thread(detect)
    async with contextlib.AsyncExitStack() as stack:
        process = await stack.enter_async_context(Process("worker", config.process))
        cache = ArtifactCache(Path(config.cache), config.cache_limit)
        stack.callback(cache.close)
        clock, measures, serving = SystemClock(), Measures(process.metrics), Serving()
        server = process.create_server()
        work = servicer.WorkerServicer(serving, clock, process.tracer)
        oip_servicer.add_to_server(oip_servicer.InferenceServicer(serving, clock), server)
        address = await bind(server, config.listen, process.certificates)
        methods = accepting({servicer.SERVE: work.serve})
        wire = Server(config.bundle_listen, methods, process.certificates, setting="bundle_listen")
        await stack.enter_async_context(wire)
        stack.push_async_callback(server.stop, None)  # for a bad setting that shows late; a drain has stopped it
        registry = await stack.enter_async_context(connect(config.registry, process.certificates))
        scheduler = await stack.enter_async_context(connect(config.scheduler, process.certificates))
        # a CPU stays one, whatever else is in the machine: there is no need to ask torch again
        watch = DeviceWatch(info, partial(device.refreshed, info) if info.kind == "cpu" else detect, clock)
        known = LastKnown(Path(config.cache) / "last-known")
        source = RememberingSource(RegistrySource(registry), known)
        tools = _tools(config, source, cache, serving, measures, clock, info)
        identity, link = _identity(config, name, address, wire.address), SchedulerLink(scheduler)
        agent = Agent(identity, link, partial(_hold, tools), lambda: watch.info, clock, measures, known)
        worker = _Worker(config, process, serving, work, server, agent, watch)
        await worker.run(grpc=address, bundles=wire.address)


@dataclass(frozen=True, slots=True)
class _Worker:
    """The parts that the life of the process is about."""

    config: WorkerConfig
    process: Process
    serving: Serving
    work: servicer.WorkerServicer
    server: grpc.aio.Server
    agent: Agent
    watch: DeviceWatch

    async def run(self, **addresses: str) -> None:
        """Serves until the process is told to stop, then leaves the mesh without losing a call."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self.agent.run())
            watching = tasks.create_task(self.watch.run())
            announcing = tasks.create_task(self._announce())
            settling = tasks.create_task(self._follow_agent())
            garbage.settle()
            self.process.listening(**addresses)
            await self.process.until_stopped()
            await announcing
            await self._leave()
            watching.cancel()
            settling.cancel()

    async def _follow_agent(self) -> None:
        """Says SERVING only once everything is loaded: from then on a platform may end another worker."""
        await self.agent.settled()
        self.process.serving()

    async def _announce(self) -> None:
        """Tells scheduler and gateways at once, while everything is still served (lame duck)."""
        await self.process.until_told()
        self.serving.drain()
        self.agent.drain()

    async def _leave(self) -> None:
        log, drain_time = structlog.get_logger(__name__), self.config.process.drain.timeout
        await asyncio.sleep(_SETTLE)
        try:
            async with asyncio.timeout(drain_time):
                await self.serving.until_idle()
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self.work.left(), _PARTING)
        except TimeoutError:
            log.warning("calls under way are cut", calls=sum(model.in_flight for model in self.serving))
        self.work.stop()
        await drain(self.server, min(5.0, drain_time))
        await self.agent.stop(_GOODBYE)


def _id(config: WorkerConfig) -> str:
    if not config.id:
        host = re.sub(r"[^a-z0-9-]+", "-", socket.gethostname().lower()).strip("-")[:40]
        return f"{host or 'worker'}-{os.getpid()}"
    try:
        return check_id("worker", config.id)
    except InvalidInput as error:
        raise ConfigError(f"id: {error.message}") from error


def _identity(config: WorkerConfig, name: str, address: str, bundles: str) -> Identity:
    return Identity(
        id=name,
        address=config.advertise or _reachable(address, config.scheduler, "advertise"),
        bundle_address=config.bundle_advertise or _reachable(bundles, config.scheduler, "bundle_advertise"),
        incarnation=uuid.uuid4().hex,
        backends=[name for name in backends.available() if name != "python" or config.allow_python],
        weight=config.weight,
        labels=dict(config.labels),
        memory_limit=config.memory_limit,
    )


def _reachable(address: str, peer: str, setting: str) -> str:
    """Returns an address that others can dial: for a wildcard, that of the interface which leads to `peer`."""
    host, _, port = address.rpartition(":")
    if host not in ("0.0.0.0", "[::]", "::", ""):
        return address
    peer_host, _, peer_port = peer.rpartition(":")
    try:
        family, kind, _, _, target = socket.getaddrinfo(peer_host, peer_port, type=socket.SOCK_DGRAM)[0]
        with socket.socket(family, kind) as probe:
            probe.connect(target)  # sends nothing: only asks for the route
            own = probe.getsockname()[0]
    except OSError as error:
        flag = setting.replace("_", "-")
        raise ConfigError(f"{setting}: can't tell how others reach {address} ({error}): set --{flag}") from error
    return f"[{own}]:{port}" if ":" in own else f"{own}:{port}"


def _tools(
    config: WorkerConfig,
    source: Source,
    cache: ArtifactCache,
    serving: Serving,
    measures: Measures,
    clock: Clock,
    info: DeviceInfo,
) -> Tools:
    def spec(version: model_pb2.ModelVersion, folder: Path) -> RunnerSpec:
        held = sum(1 for _ in serving) + 1
        threads = config.threads or _threads(version, held)
        return RunnerSpec(version, folder, info.torch_name, threads, config.allow_python)

    return Tools(
        source,
        cache,
        serving,
        measures,
        clock,
        Runner.start,
        asyncio.Semaphore(config.loads),
        spec,
        config.unload_timeout,
        # an accelerator shares itself between its processes; what it makes of that is not known
        Turns(len(os.sched_getaffinity(0)) if info.torch_name == "cpu" else 0),
    )


def _threads(version: model_pb2.ModelVersion, models: int) -> int:
    """Divides the cores between the models; on a small one more threads cost more than they give."""
    if sum(file.size_bytes for file in version.files) < _SMALL:
        return 1
    return max(1, len(os.sched_getaffinity(0)) // models)


def _hold(tools: Tools, assignment: worker_pb2.Assignment, changed: Callable[[], None]) -> Holding:
    return Holding(assignment, tools, changed)


def cli() -> int:
    """Entry point: returns the exit status."""
    return run(main)
