"""KEDA's external scaler: tells whether a pool has anything to do, and how much for each of its workers.

A trigger names its pool (`pool`) and may have targets of its own (`queueRows`, `utilization`, `waitMs`; 0 leaves one
out). The values are made for metrics of the type AverageValue: value divided by target is the number of workers wanted.
"""

import math
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

import grpc
import grpc.aio

from infermesh.errors import InvalidInput, NotFound, NotReady
from infermesh.keda.v1 import externalscaler_pb2 as pb
from infermesh.mesh.clock import Clock
from infermesh.scheduler.autoscaler import Signals
from infermesh.scheduler.latest import Latest
from infermesh.scheduler.pools import PoolConfig

SERVICE: Final = "externalscaler.ExternalScaler"
QUEUE_ROWS: Final = "queue_rows"
UTILIZATION: Final = "utilization"
WAIT: Final = "wait"
_OVERRIDES: Final = {"queueRows": (QUEUE_ROWS, 1.0), "utilization": (UTILIZATION, 1.0), "waitMs": (WAIT, 1e-3)}
_AGAIN: Final = 5.0  # seconds after which calls that still wait for the first worker are told of again
_LEAST: Final = 0.001  # what travels is a number of thousandths


@dataclass(frozen=True, slots=True)
class _Pool:
    signals: Latest[Signals]
    targets: Mapping[str, float]


class ScalerServicer:
    """Answers KEDA. `signals` are those of all pools."""

    def __init__(self, pools: Mapping[str, PoolConfig], signals: Mapping[str, Latest[Signals]], clock: Clock) -> None:
        self._pools = pools
        self._signals = signals
        self._clock = clock

    async def is_active(self, request: pb.ScaledObjectRef, context: Any) -> pb.IsActiveResponse:
        """Tells whether the pool must not be without workers. Raises NotReady while that is not known."""
        return pb.IsActiveResponse(result=_known(self._pool(request)).active)

    async def stream_is_active(self, request: pb.ScaledObjectRef, context: Any) -> AsyncIterator[pb.IsActiveResponse]:
        """Streams the same, as soon as it is known and whenever it changes; that calls wait for a first worker also
        again and again, since what the receiver makes of it may fail."""
        told, told_at = None, -math.inf
        async for signals in self._pool(request).signals.watch():
            now = self._clock.time()
            again = signals.active and not signals.workers and now - told_at >= _AGAIN
            if signals.known and (signals.active != told or again):
                told, told_at = signals.active, now
                yield pb.IsActiveResponse(result=told)

    async def get_metric_spec(self, request: pb.ScaledObjectRef, context: Any) -> pb.GetMetricSpecResponse:
        """Returns the targets of the pool."""
        targets = self._pool(request).targets
        return pb.GetMetricSpecResponse(
            metricSpecs=[pb.MetricSpec(metricName=name, targetSizeFloat=target) for name, target in targets.items()]
        )

    async def get_metrics(self, request: pb.GetMetricsRequest, context: Any) -> pb.GetMetricsResponse:
        """Returns the value of one metric, or of all for an empty name.

        Raises NotReady while they are not known, NotFound for a metric that the pool doesn't have.
        """
        pool, name = self._pool(request.scaledObjectRef), request.metricName
        if name and name not in pool.targets:
            raise NotFound.of("metric", name, f"known: {', '.join(pool.targets)}")
        values = _values(_known(pool))
        names = [name] if name else list(pool.targets)
        return pb.GetMetricsResponse(
            metricValues=[pb.MetricValue(metricName=name, metricValueFloat=values[name]) for name in names]
        )

    def _pool(self, request: pb.ScaledObjectRef) -> _Pool:
        """Returns what a trigger asks for. Raises InvalidInput if that can't be."""
        told = dict(request.scalerMetadata)
        name, known = told.get("pool", ""), ", ".join(sorted(self._pools)) or "none"
        if name not in self._pools:
            text = f"trigger metadata: pool: expected one of the scheduler's pools ({known}), got '{name}'"
            raise InvalidInput(text, metadata={"pool": name})
        config = self._pools[name]
        if config.autoscaling != "keda":
            text = f"pool '{name}': expected autoscaling keda in the scheduler's settings, got {config.autoscaling}"
            raise InvalidInput(text, metadata={"pool": name})
        target = config.target
        targets = {QUEUE_ROWS: target.queue_rows, UTILIZATION: target.utilization, WAIT: target.wait}
        for key, (metric, unit) in _OVERRIDES.items():
            if key in told:
                targets[metric] = _number(key, told[key]) * unit
        asked = {metric: value for metric, value in targets.items() if value >= _LEAST}
        if not asked:
            raise InvalidInput(f"trigger metadata: expected one of {', '.join(_OVERRIDES)} above 0, got none")
        return _Pool(self._signals[name], asked)


def _number(key: str, text: str) -> float:
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not 0 <= value < math.inf or (key == "utilization" and value > 1):
        most = "0 to 1" if key == "utilization" else "0 or more"
        raise InvalidInput(f"trigger metadata: {key}: expected a number, {most}, got '{text}'", metadata={key: text})
    return value


def _known(pool: _Pool) -> Signals:
    signals = pool.signals.value
    if signals is None or not signals.known:
        raise NotReady("no gateway has told yet what there is to do: the number of workers stays", retry_after=1.0)
    return signals


def _values(signals: Signals) -> dict[str, float]:
    # a wait gets shorter as workers get more: taken times the workers it is an amount that they share
    return {
        QUEUE_ROWS: signals.rows,
        UTILIZATION: signals.utilization,
        WAIT: max(1, signals.workers) * signals.wait,
    }


def add_to_server(servicer: ScalerServicer, server: grpc.aio.Server) -> None:
    """Serves `servicer` on a gRPC server, under KEDA's name for it."""

    def codecs(request: Any) -> dict[str, Any]:
        return {"request_deserializer": request.FromString, "response_serializer": lambda m: m.SerializeToString()}

    unary, stream, ref = grpc.unary_unary_rpc_method_handler, grpc.unary_stream_rpc_method_handler, pb.ScaledObjectRef
    handlers = {
        "IsActive": unary(servicer.is_active, **codecs(ref)),
        "StreamIsActive": stream(servicer.stream_is_active, **codecs(ref)),
        "GetMetricSpec": unary(servicer.get_metric_spec, **codecs(ref)),
        "GetMetrics": unary(servicer.get_metrics, **codecs(pb.GetMetricsRequest)),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
