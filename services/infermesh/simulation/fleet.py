"""Simulated workers: the worker's own serving, planning and executing, over runners that only take time."""

import asyncio
from collections.abc import Callable, Mapping
from functools import partial
from typing import cast

from opentelemetry.trace import NoOpTracer
from prometheus_client import CollectorRegistry

from infermesh.mesh.parcel import Large, Parcel
from infermesh.simulation.device import Device, Runner, Timing
from infermesh.simulation.record import Record
from infermesh.simulation.scenario import Model, Scenario
from infermesh.v1 import deployment_pb2, model_pb2
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle
from infermesh.worker.measures import Measures
from infermesh.worker.models import HeldModel
from infermesh.worker.runner import Runner as RealRunner
from infermesh.worker.serving import Serving
from infermesh.worker.streams import GatewayStream
from infermesh.worker.turns import Turns

VERSION = "1"
INPUT, OUTPUT, DATATYPE = "request", "number", "INT64"


class LoopClock:
    """The event loop's time as a `mesh.clock.Clock`."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()

    def time(self) -> float:
        """Returns the loop's time in seconds."""
        return self._loop.time()

    async def sleep(self, seconds: float) -> None:
        """Waits in the loop's time. Safe to cancel."""
        await asyncio.sleep(seconds)


class SimulatedWorker:
    """One worker that holds every model of a scenario."""

    def __init__(self, number: int, scenario: Scenario, record: Record, timing: Timing) -> None:
        self.id = f"worker-{number}"
        self.address = f"{self.id}:0"
        self._number, self._record = number, record
        self._loop = asyncio.get_running_loop()
        self._clock = LoopClock()
        self._serving = Serving()
        self._streams: dict[GatewayStream, None] = {}
        self._measures = Measures(CollectorRegistry())
        self._device = Device(self._loop)
        self._timing = timing
        self._hold(scenario.models, scenario)

    def _hold(self, models: Mapping[str, Model], scenario: Scenario) -> None:
        slowness = scenario.speeds()[self._number]
        turns = Turns(1)
        for name, model in models.items():
            held = HeldModel(
                name,
                VERSION,
                _version(model),
                self._clock,
                self._measures.of(name, VERSION),
                self._serving.changed,
                planner=scenario.planner(),
                turns=turns,
            )
            held.set_batching(_batching(model))
            runner = Runner(model, slowness, self._device, self._timing, self._began, self._ran)
            held.attach(cast(RealRunner, runner))
            self._serving.add(held)

    def _began(self, expected: float, numbers: list[int]) -> None:
        self._record.began(self._number, self._loop.time(), expected, numbers)

    def _ran(self, seconds: float, numbers: list[int]) -> None:
        self._record.ran(self._number, self._loop.time(), seconds, numbers)

    def accept(self, send: Callable[[Parcel[ResultBundle]], None]) -> "Connection":
        """Takes a gateway's stream; `send` carries bundles back to it, and never makes wait."""
        stream = GatewayStream(self._serving, self._clock, NoOpTracer(), lambda: len(self._streams))
        self._streams[stream] = None
        stream.open(send)
        return Connection(stream, partial(self._leave, stream))

    def _leave(self, stream: GatewayStream) -> None:
        del self._streams[stream]
        stream.close()


class Connection:
    """The worker's end of a wire."""

    def __init__(self, stream: GatewayStream, leave: Callable[[], None]) -> None:
        self._stream, self._leave = stream, leave

    def take(self, bundle: WorkBundle, large: Large, /) -> None:
        """Takes a bundle of work."""
        self._stream.take(bundle, large)

    def close(self) -> None:
        """The gateway has gone."""
        self._leave()


def _version(model: Model) -> model_pb2.ModelVersion:
    version = model_pb2.ModelVersion(name=f"models/simulated/versions/{VERSION}", max_batch_size=model.max_batch)
    version.signature.inputs.add(name=INPUT, datatype=DATATYPE, shape=[-1, 1])
    version.signature.outputs.add(name=OUTPUT, datatype=DATATYPE, shape=[-1, 1])
    return version


def _batching(model: Model) -> deployment_pb2.Batching:
    batching = deployment_pb2.Batching(max_batch_size=model.max_batch)
    batching.max_delay.FromNanoseconds(round(model.max_delay * 1e9))
    return batching
