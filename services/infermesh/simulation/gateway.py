"""The simulated gateway: its real core over wires in memory, and what calls it."""

import asyncio
from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from math import inf
from random import Random

from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from infermesh.errors import DeadlineExceeded, Overloaded
from infermesh.gateway.calls import Call
from infermesh.gateway.core import Core
from infermesh.mesh.wire import Bytes, varint
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.simulation.arrivals import Request
from infermesh.simulation.device import NUMBER_BYTES
from infermesh.simulation.fleet import DATATYPE, INPUT, VERSION, SimulatedWorker
from infermesh.simulation.record import Record
from infermesh.simulation.scenario import Scenario
from infermesh.simulation.wire import Wire
from infermesh.v1.scheduler_service_pb2 import (
    DeploymentRoute,
    ResolvedRoute,
    RouteSnapshot,
    RouteWorker,
    VersionRoute,
)
from infermesh.v1.worker_pb2 import HeldVersion

_RAW = b"\x3a"  # field 7 of ModelInferRequest, length-delimited


class SimulatedGateway:
    """A gateway core that leads to `workers`. Use as `async with`."""

    def __init__(self, scenario: Scenario, workers: Mapping[str, SimulatedWorker]) -> None:
        self._scenario, self._workers = scenario, workers
        self._core = Core(
            gateway="simulated",
            subscribe=self._routes,
            registry=CollectorRegistry(),
            tracer=NoOpTracer(),
            limits=scenario.limits,
            rng=Random(f"{scenario.seed} gateway"),
            connect=lambda address: Wire(scenario.delay, workers[address].accept),
        )
        self.infer = self._core.dispatcher.infer

    async def __aenter__(self) -> "SimulatedGateway":
        await self._core.start()
        # until every worker has told its load
        await asyncio.sleep(10 * self._scenario.delay + 0.001)
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._core.stop()

    async def _routes(self) -> AsyncIterator[RouteSnapshot]:
        yield _snapshot(self._scenario, self._workers.values())
        await asyncio.get_running_loop().create_future()


class Load:
    """Plays requests: each comes at its time, and what becomes of it is recorded."""

    def __init__(self, gateway: SimulatedGateway, scenario: Scenario, record: Record) -> None:
        self._loop = asyncio.get_running_loop()
        self._gateway, self._record = gateway, record
        fastest = min(scenario.speeds())
        self._models = scenario.models
        self._shortest = {
            name: model.curve.seconds(1) * fastest + 2 * scenario.delay for name, model in scenario.models.items()
        }
        self._heads: dict[tuple[str, int], bytes] = {}
        self._open = 0
        self._begin = 0.0
        self._exhausted = False
        self._done = self._loop.create_future()

    async def play(self, requests: Iterable[Request]) -> float:
        """Sends the requests and waits until all have ended; returns the seconds from the first moment to the last."""
        self._begin = self._loop.time()
        self._advance(iter(requests))
        await self._done
        return self._loop.time() - self._begin

    def _advance(self, left: Iterator[Request]) -> None:
        request = next(left, None)
        if request is None:
            self._exhausted = True
            self._look_done()
            return
        self._loop.call_at(self._begin + request.at, self._send, request, left)

    def _send(self, request: Request, left: Iterator[Request]) -> None:
        now = self._loop.time()
        shifted = Request(now, request.model, request.rows, request.slo, request.priority)
        number = self._record.arrived(shifted, self._shortest[request.model])
        deadline = now + request.slo if request.slo < inf else None
        self._open += 1
        future = self._gateway.infer(
            Call(request.model, "", self._payload(request, number), deadline, request.priority)
        )
        future.add_done_callback(lambda ended: self._ended(number, ended))
        self._advance(left)

    def _payload(self, request: Request, number: int) -> bytes:
        head = self._heads.get((request.model, request.rows))
        if head is None:
            message = oip.ModelInferRequest(model_name=request.model)
            message.inputs.add(name=INPUT, datatype=DATATYPE, shape=[request.rows, 1])
            head = message.SerializeToString() + _RAW + varint(request.rows * NUMBER_BYTES)
            self._heads[request.model, request.rows] = head
        return head + number.to_bytes(NUMBER_BYTES, "little") * request.rows

    def _ended(self, number: int, future: "asyncio.Future[Bytes]") -> None:
        error, now = future.exception(), self._loop.time()
        if error is None:
            self._record.answered(number, now, int.from_bytes(future.result()[-NUMBER_BYTES:], "little"))
        else:
            self._record.refused(number, now, not isinstance(error, DeadlineExceeded | Overloaded))
        self._open -= 1
        self._look_done()

    def _look_done(self) -> None:
        if self._exhausted and not self._open and not self._done.done():
            self._done.set_result(None)


def _snapshot(scenario: Scenario, workers: Iterable[SimulatedWorker]) -> RouteSnapshot:
    listed = [RouteWorker(id=w.id, address=w.address, incarnation="1", weight=1.0) for w in workers]
    names = [worker.id for worker in listed]
    deployments = [
        DeploymentRoute(
            deployment=model,
            model=model,
            versions=[VersionRoute(version=VERSION, state=HeldVersion.READY, workers=names)],
            traffic=[ResolvedRoute(version=VERSION, weight=1)],
            policy=scenario.policy,
        )
        for model in scenario.models
    ]
    return RouteSnapshot(revision=1, epoch="simulated", workers=listed, deployments=deployments)
