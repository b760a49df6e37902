"""ModelStatistics of the whole mesh: the sum of what the workers that hold a version have counted, and of the calls
that this gateway has refused in their place."""

import asyncio
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final

import grpc
import grpc.aio
from google.protobuf.message import Message

from infermesh.errors import NotReady
from infermesh.gateway.routes import RouteTable
from infermesh.gateway.stats import TargetStats
from infermesh.mesh import status
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1.worker_pb2 import HeldVersion

_METHOD: Final = "/inference.GRPCInferenceService/ModelStatistics"
_TIMEOUT: Final = 2.0
_Key = tuple[str, str]


def merge(parts: Iterable[oip.ModelStatistics], known: Sequence[_Key]) -> oip.ModelStatisticsResponse:
    """Returns one entry for each name and version: durations and counts added up, the latest time of all.

    A version in `known` that nobody has counted anything for is there with zeros. Pure.
    """
    found = {key: oip.ModelStatistics(name=key[0], version=key[1]) for key in known}
    for part in parts:
        whole = found.setdefault((part.name, part.version), oip.ModelStatistics(name=part.name, version=part.version))
        whole.last_inference = max(whole.last_inference, part.last_inference)
        whole.inference_count += part.inference_count
        whole.execution_count += part.execution_count
        _add(whole.inference_stats, part.inference_stats)
        _merge_batches(whole, part)
        for key, statistics in part.response_stats.items():
            _add(whole.response_stats[key], statistics)
        whole.memory_usage.extend(part.memory_usage)
    for whole in found.values():
        _set_all(whole.inference_stats)
    return oip.ModelStatisticsResponse(model_stats=[found[key] for key in sorted(found, key=_order)])


def _merge_batches(whole: oip.ModelStatistics, part: oip.ModelStatistics) -> None:
    sizes = {batch.batch_size: batch for batch in whole.batch_stats}
    for batch in part.batch_stats:
        if batch.batch_size not in sizes:
            sizes[batch.batch_size] = oip.InferBatchStatistics(batch_size=batch.batch_size)
        _add(sizes[batch.batch_size], batch)
    merged = [sizes[size] for size in sorted(sizes)]
    del whole.batch_stats[:]
    whole.batch_stats.extend(merged)


def _add(whole: Any, part: Message) -> None:
    """Adds every duration of a message to another."""
    for field, value in part.ListFields():
        if field.message_type is not None:
            duration = getattr(whole, field.name)
            duration.count += value.count
            duration.ns += value.ns


def _set_all(statistics: oip.InferStatistics) -> None:
    """Makes every duration present: clients read the fields whether they are there or not."""
    for field in statistics.DESCRIPTOR.fields:
        getattr(statistics, field.name).SetInParent()


def _order(key: _Key) -> tuple[str, int, str]:
    name, version = key
    return name, int(version) if version.isdigit() else 0, version


def refusals(stats: TargetStats) -> oip.ModelStatistics:
    """Returns the calls that a gateway refused for a target, as failures."""
    failed = oip.InferStatistics(fail=oip.StatisticDuration(count=stats.refused))
    return oip.ModelStatistics(name=stats.model, version=stats.version, inference_stats=failed)


class Statistics:
    """Asks the workers."""

    def __init__(
        self,
        routes: RouteTable,
        workers: Callable[[str], grpc.aio.Channel],
        own: Callable[[], Iterable[TargetStats]],
    ) -> None:
        self._routes = routes
        self._workers = workers
        self._own = own

    async def collect(self, model: str, version: str, timeout: float | None = None) -> oip.ModelStatisticsResponse:
        """Returns the statistics of a model's versions, of one of them (a number or alias), or of every model.

        Raises NotFound, and NotReady if no worker could be asked. `timeout` is in seconds.
        """
        known, workers = self._wanted(model, version)
        limit = _TIMEOUT if timeout is None else min(timeout, _TIMEOUT)
        asked = [self._ask(address, model, limit) for address in workers]
        answers = await asyncio.gather(*asked, return_exceptions=True)
        parts = [part for answer in answers if isinstance(answer, list) for part in answer]
        if workers and not any(isinstance(answer, list) for answer in answers):
            raise NotReady("no worker could be asked for its statistics: try again", retry_after=1.0)
        parts += [refusals(stats) for stats in self._own() if stats.refused]
        wanted = [part for part in parts if not known or (part.name, part.version) in set(known)]
        return merge(wanted, known)

    def _wanted(self, model: str, version: str) -> tuple[list[_Key], list[str]]:
        """Returns the entries that the answer shall have, and the addresses of the workers to ask."""
        routes = [self._routes.deployment(model)] if model else self._deployments()
        answering = self._routes.version(model, version).version if model else ""
        one = answering if version else ""
        known: list[_Key] = []
        holders: set[str] = set()
        for route in routes:
            for held in route.versions:
                if held.state == HeldVersion.READY and one in ("", held.version):
                    known.append((route.deployment, held.version))
                    holders.update(held.workers)
        snapshot = self._routes.snapshot
        workers = snapshot.workers if snapshot is not None else ()
        return known, [worker.address for worker in workers if worker.id in holders]

    def _deployments(self) -> Sequence[Any]:
        snapshot = self._routes.snapshot
        return () if snapshot is None else snapshot.deployments

    async def _ask(self, address: str, model: str, timeout: float) -> list[oip.ModelStatistics]:
        call = self._workers(address).unary_unary(
            _METHOD,
            request_serializer=oip.ModelStatisticsRequest.SerializeToString,
            response_deserializer=oip.ModelStatisticsResponse.FromString,
        )
        try:
            answer = await call(oip.ModelStatisticsRequest(name=model), timeout=timeout)
        except grpc.aio.AioRpcError as error:
            raise status.from_rpc_error(error) from error
        return list(answer.model_stats)
