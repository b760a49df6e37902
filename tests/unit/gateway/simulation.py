"""Simulated workers, in memory and in whatever time the loop has. The wire to them is a `ServeStream` like the real one
(tests/contract/test_serve_stream.py runs the same suite on both), and the same `SimWorker` can stand behind gRPC."""

import asyncio
from collections import deque
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field
from random import Random
from typing import NoReturn

import grpc
from opentelemetry.trace import NoOpTracer, Tracer
from prometheus_client import CollectorRegistry

from infermesh.errors import MeshError, WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.core import Core
from infermesh.gateway.demand import Tell
from infermesh.gateway.streams import Take
from infermesh.mesh.parcel import Parcel, pieces, read
from infermesh.mesh.status import to_status
from infermesh.v1.deployment_pb2 import Batching, Hedging
from infermesh.v1.scheduler_service_pb2 import (
    DeploymentRoute,
    ResolvedRoute,
    RouteSnapshot,
    RouteWorker,
    VersionRoute,
)
from infermesh.v1.worker_pb2 import HeldVersion
from infermesh.v1.worker_service_pb2 import ResultBundle, ResultItem, TargetLoad, WorkBundle, WorkItem


@dataclass
class SimWorker:
    """Answers each call after `seconds` with `name|target|payload`, and keeps a record of what it was sent.

    `outcome` may turn an item into an error (and whether it was begun). `responses` is how many responses a streamed
    call has.
    """

    name: str
    targets: dict[str, int]  # target -> credit
    seconds: float = 0.01
    responses: int = 3
    outcome: Callable[[WorkItem], tuple[MeshError, bool] | None] = lambda item: None
    stall: Callable[[], float] = lambda: 0.0  # seconds that a call takes beside
    answer: Callable[[WorkItem], bytes] | None = None
    compute_us: int = 7  # what it says that a call took
    write_seconds: float = 0.0  # time that one bundle takes to be written
    mute: bool = False  # says nothing on new streams
    frozen: bool = False  # reads and says nothing; what it has to do goes on when it thaws
    up: bool = True
    draining: bool = False
    received: list[WorkItem] = field(default_factory=list)
    cancelled: list[int] = field(default_factory=list)
    bundles: list[WorkBundle] = field(default_factory=list)
    sessions: list["Session"] = field(default_factory=list)
    violations: list[str] = field(default_factory=list)
    probes: int = 0
    _limits: dict[str, int] = field(default_factory=dict)

    @property
    def address(self) -> str:
        return f"{self.name}:1"

    def kill(self) -> None:
        """Dies: every stream breaks, nothing under way is answered."""
        self.up = False
        for session in list(self.sessions):
            session.end()

    def revive(self) -> None:
        self.up = True
        self.draining = False

    def freeze(self) -> None:
        """Stands still, with its streams open."""
        self.frozen = True

    def thaw(self) -> None:
        """Goes on where it stood."""
        self.frozen = False
        for session in self.sessions:
            session.catch_up()

    def drain(self) -> None:
        """Is told to stop: says so, goes on answering what it has."""
        self.draining = True
        for session in self.sessions:
            session.send(ResultBundle(draining=True))

    def limit(self, target: str) -> int:
        """Returns the most calls that the gateway may have here, as far as it can know."""
        return max(self.targets.get(target, 0), self._limits.get(target, 0))

    def told(self) -> None:
        """Whatever was said before has arrived at the gateway by now."""
        self._limits.clear()

    def set_credit(self, target: str, credit: int, *, gone: bool = False) -> None:
        self._limits[target] = self.limit(target)
        self.targets[target] = credit
        for session in self.sessions:
            session.send(ResultBundle(loads=[self.load(target, session, gone=gone)]))

    def load(self, target: str, session: "Session", *, gone: bool = False) -> TargetLoad:
        total = sum(one.count(target) for one in self.sessions)
        micros = int(self.seconds * 1e6)
        return TargetLoad(
            target=target, credit=self.targets[target], in_flight=total, service_time_us=micros, gone=gone
        )


class Session:
    """One stream, as the worker sees it. `send` and `closed` are what carries its results."""

    def __init__(self, worker: SimWorker, send: Callable[[ResultBundle], None], closed: Callable[[], None]) -> None:
        self.worker = worker
        self.send = send
        self._closed = closed
        self.open = True
        self._missed: list[Callable[[], None]] = []  # while frozen
        self.under_way: dict[int, WorkItem] = {}
        self._seen: set[int] = set()
        worker.sessions.append(self)
        loads = [worker.load(target, self) for target in worker.targets]
        if not worker.mute:
            send(ResultBundle(loads=loads, draining=worker.draining))

    def count(self, target: str) -> int:
        return sum(item.target == target for item in self.under_way.values())

    def catch_up(self) -> None:
        missed, self._missed = self._missed, []
        for step in missed:
            step()

    def receive(self, bundle: WorkBundle) -> None:
        if self.worker.frozen:
            self._missed.append(lambda: self.receive(bundle))
            return
        self.worker.bundles.append(bundle)
        if bundle.probe:
            self.worker.probes += 1
            loads = [self.worker.load(target, self) for target in self.worker.targets]
            self.send(ResultBundle(loads=loads, probe=bundle.probe))
        for item in bundle.items:
            if item.kind == WorkItem.CANCEL:
                self.worker.cancelled.append(item.id)
                self.under_way.pop(item.id, None)
            else:
                self._begin(item)

    def _begin(self, item: WorkItem) -> None:
        worker = self.worker
        worker.received.append(item)
        if item.id in self._seen:
            worker.violations.append(f"id {item.id} was used before")
        self._seen.add(item.id)
        self.under_way[item.id] = item
        if self.count(item.target) > worker.limit(item.target):
            worker.violations.append(f"more than {worker.limit(item.target)} calls of {item.target}")
        asyncio.get_running_loop().call_later(worker.seconds + worker.stall(), self._answer, item, 1)

    def _answer(self, item: WorkItem, number: int) -> None:
        if self.worker.frozen:
            self._missed.append(lambda: self._answer(item, number))
            return
        if not self.open or item.id not in self.under_way:
            return
        outcome = self.worker.outcome(item)
        if outcome is not None:
            error, not_started = outcome
            del self.under_way[item.id]
            result = ResultItem(id=item.id, error=to_status(error), final=True, not_started=not_started)
            self.send(ResultBundle(results=[result], loads=[self.worker.load(item.target, self)]))
            return
        final = item.kind == WorkItem.INFER or number >= self.worker.responses
        if final:
            del self.under_way[item.id]
        else:
            asyncio.get_running_loop().call_later(self.worker.seconds, self._answer, item, number + 1)
        payload = b"%s|%s|%s" % (self.worker.name.encode(), item.target.encode(), item.payload)
        if self.worker.answer is not None:
            payload = self.worker.answer(item)
        result = ResultItem(id=item.id, payload=payload, final=final, queue_us=5, compute_us=self.worker.compute_us)
        self.send(ResultBundle(results=[result], loads=[self.worker.load(item.target, self)]))

    def end(self) -> None:
        """The stream ends, from whichever side."""
        if self.open:
            self.open = False
            self.worker.sessions.remove(self)
            self._closed()


class MemoryStream:
    """A `ServeStream` to a SimWorker in the same process."""

    def __init__(self, worker: SimWorker | None) -> None:
        self._bundles: deque[ResultBundle] = deque()
        self._news = asyncio.Event()
        self._broken = worker is None or not worker.up
        self._session = None if worker is None or self._broken else Session(worker, self._deliver, self._break)

    def _deliver(self, bundle: ResultBundle) -> None:
        self._bundles.append(bundle)
        self._news.set()

    def _break(self) -> None:
        self._broken = True
        self._news.set()

    async def run(self, take: Take) -> NoReturn:
        while True:
            while not self._bundles:
                if self._broken:
                    raise WorkerLost("the stream broke")
                self._news.clear()
                await self._news.wait()
            await asyncio.sleep(0)
            take(*read(self._bundles.popleft().SerializeToString(), ResultBundle))

    def write(self, parcel: Parcel[WorkBundle]) -> "asyncio.Future[None] | None":
        session = self._session
        if self._broken or session is None:
            raise WorkerLost("the stream broke")
        copy = WorkBundle.FromString(b"".join(pieces(parcel)))
        if not session.worker.write_seconds:
            session.receive(copy)
            return None
        written: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        asyncio.get_running_loop().call_later(session.worker.write_seconds, self._arrive, session, copy, written)
        return written

    def _arrive(self, session: Session, bundle: WorkBundle, written: "asyncio.Future[None]") -> None:
        if self._broken:
            written.cancel()
        else:
            session.receive(bundle)
            written.set_result(None)

    async def close(self) -> None:
        if self._session is not None:
            self._session.end()
        self._broken = True


class SimScheduler:
    """A scheduler that says what a test tells it to, and can be away."""

    def __init__(self) -> None:
        self._streams: list[asyncio.Queue[RouteSnapshot | None]] = []
        self._last: RouteSnapshot | None = None
        self.up = True

    def publish(self, snapshot: RouteSnapshot) -> None:
        self._last = snapshot
        for stream in self._streams:
            stream.put_nowait(snapshot)

    def kill(self) -> None:
        """Dies, and forgets everything."""
        self.up, self._last = False, None
        for stream in self._streams:
            stream.put_nowait(None)

    async def subscribe(self) -> AsyncIterator[RouteSnapshot]:
        if not self.up:
            raise grpc.RpcError("nobody listens")
        stream: asyncio.Queue[RouteSnapshot | None] = asyncio.Queue()
        self._streams.append(stream)
        if self._last is not None:
            stream.put_nowait(self._last)
        while (snapshot := await stream.get()) is not None:
            yield snapshot
        self._streams.remove(stream)
        raise grpc.RpcError("the scheduler died")


class SimMesh:
    """A gateway core over simulated workers. Use as `async with`."""

    def __init__(
        self,
        *workers: SimWorker,
        limits: Limits | None = None,
        tracer: Tracer | None = None,
        seed: int = 1,
        tell: Tell | None = None,
    ) -> None:
        self.workers = {worker.address: worker for worker in workers}
        self.metrics = CollectorRegistry()
        self.scheduler = SimScheduler()
        self._revision = 0
        self.core = Core(
            gateway="gw",
            subscribe=self.scheduler.subscribe,
            registry=self.metrics,
            tracer=tracer or NoOpTracer(),
            limits=limits or Limits(),
            rng=Random(seed),
            connect=lambda address: MemoryStream(self.workers.get(address)),
            tell=tell,
        )

    async def __aenter__(self) -> "SimMesh":
        await self.core.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.core.stop()
        assert [worker.violations for worker in self.workers.values() if worker.violations] == []

    async def route(self, *deployments: DeploymentRoute, workers: list[SimWorker] | None = None) -> None:
        """Publishes routes and lets the links connect."""
        self._revision += 1
        chosen = list(self.workers.values()) if workers is None else workers
        self.scheduler.publish(snapshot(*deployments, workers=chosen, revision=self._revision))
        await settle()

    def infer(self, version: str = "", payload: bytes = b"x", deployment: str = "digits", **more: object):
        """Makes a call with `timeout` seconds or none."""
        timeout = more.pop("timeout", None)
        if timeout is not None:
            more["deadline"] = asyncio.get_running_loop().time() + float(str(timeout))
        return self.core.dispatcher.infer(Call(deployment, version, payload, **more))  # type: ignore[arg-type]


class Caller(asyncio.Future[bytes]):
    """Somebody who has his result told instead of awaiting it; cancelling gives the call up."""

    def __init__(self, mesh: SimMesh, call: Call) -> None:
        super().__init__()
        self._pending = mesh.core.dispatcher.submit(call, self)

    def answer(self, payload: bytes, /) -> None:
        self.set_result(payload)

    def fail(self, error: MeshError, /) -> None:
        self.set_exception(error)

    def cancel(self, msg: object = None) -> bool:
        self._pending.cancel()
        return super().cancel(msg)


def ask_directly(mesh: SimMesh, version: str = "", payload: bytes = b"", timeout: float | None = None) -> Caller:
    deadline = None if timeout is None else asyncio.get_running_loop().time() + timeout
    return Caller(mesh, Call("digits", version, payload, deadline))


async def settle(turns: int = 30) -> None:
    """Lets everything that needs no time happen."""
    for _ in range(turns):
        await asyncio.sleep(0)


def snapshot(
    *deployments: DeploymentRoute, workers: list[SimWorker], revision: int = 1, epoch: str = "e1"
) -> RouteSnapshot:
    """Returns a snapshot with these workers, each in its first life."""
    known = [RouteWorker(id=w.name, address=w.address, incarnation="1", weight=1.0) for w in workers]
    return RouteSnapshot(revision=revision, epoch=epoch, workers=known, deployments=deployments)


def deployed(
    versions: dict[str, list[SimWorker]],
    *,
    name: str = "digits",
    weights: dict[str, int] | None = None,
    policy: str = "",
    aliases: dict[str, str] | None = None,
    max_queue: int = 0,
    hedging: Hedging | None = None,
    single_flight: bool = False,
) -> DeploymentRoute:
    """Returns a deployment whose `versions` are ready on workers; equal weights unless given."""
    states = [
        VersionRoute(
            version=version,
            state=HeldVersion.READY if holders else HeldVersion.LOADING,
            workers=[worker.name for worker in holders],
            load_seconds=7.0,
        )
        for version, holders in versions.items()
    ]
    shares = weights if weights is not None else {version: 1 for version, holders in versions.items() if holders}
    return DeploymentRoute(
        deployment=name,
        model="m",
        versions=states,
        traffic=[ResolvedRoute(version=version, weight=weight) for version, weight in shares.items()],
        policy=policy,
        aliases=aliases or {},
        batching=Batching(max_queue=max_queue),
        hedging=hedging,
        single_flight=single_flight,
    )


async def outcomes(futures: list[asyncio.Future[bytes]]) -> list[bytes | BaseException]:
    """Returns the result or the error of each call."""
    return await asyncio.gather(*futures, return_exceptions=True)
