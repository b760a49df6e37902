"""The public inference service as one worker answers it."""

import asyncio
from typing import Any

import pytest

from infermesh.errors import DeadlineExceeded, InvalidInput, NotFound, NotReady
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.oip.v2 import model_config_pb2 as config
from infermesh.worker.models import HeldModel
from infermesh.worker.oip_servicer import InferenceServicer
from infermesh.worker.serving import Serving
from tests.unit.worker.worker_fakes import Clock, FakeRunner, held, measures, request_of, turns, values_of, version_of


class Context:
    """As much of a call's context as the servicer looks at."""

    def __init__(self, left: float | None = None) -> None:
        self.left = left

    def time_remaining(self) -> float | None:
        return self.left


class Setting:
    def __init__(self) -> None:
        self.clock, self.serving = Clock(), Serving()
        self.servicer = InferenceServicer(self.serving, self.clock)

    def add(self, model: HeldModel, runner: FakeRunner | None = None) -> HeldModel:
        self.serving.add(model)
        if runner is not None:
            model.attach(runner)
        return model

    async def infer(self, message: oip.ModelInferRequest, left: float | None = None) -> bytes:
        return await self.servicer.ModelInfer(message.SerializeToString(), Context(left))


def numbered(setting: Setting, number: str) -> HeldModel:
    return HeldModel("d", number, version_of(), setting.clock, measures().of("d", number))


async def test_infers_and_names_what_answered() -> None:
    setting = Setting()
    setting.add(held(setting.clock), FakeRunner(echo=True))
    response = oip.ModelInferResponse.FromString(await setting.infer(request_of(value=3.0, id="7")))
    assert (response.model_name, response.model_version, response.id) == ("d", "1", "7")
    assert values_of(response.SerializeToString()) == [3.0, 3.0]
    assert not response.parameters


async def test_without_a_version_the_highest_ready_one_answers() -> None:
    setting = Setting()
    for number in ("2", "10", "9"):
        setting.add(numbered(setting, number), FakeRunner(echo=True))
    setting.add(numbered(setting, "11"))
    assert oip.ModelInferResponse.FromString(await setting.infer(request_of())).model_version == "10"
    response = await setting.infer(request_of(model_version="2"))
    assert oip.ModelInferResponse.FromString(response).model_version == "2"


@pytest.mark.parametrize(
    ("fields", "error"),
    [
        ({"model_name": "other"}, NotFound),
        ({"model_version": "7"}, NotFound),
        ({"model_version": "11"}, NotReady),
        ({"model_version": "prod"}, InvalidInput),
    ],
)
async def test_unknown_loading_and_unnumbered_are_different_things(
    fields: dict[str, str], error: type[Exception]
) -> None:
    setting = Setting()
    setting.add(held(setting.clock), FakeRunner(echo=True))
    setting.add(numbered(setting, "11"))
    message = request_of()
    message.MergeFrom(oip.ModelInferRequest(**fields))
    with pytest.raises(error):
        await setting.infer(message)


async def test_garbage_is_refused_and_bad_requests_are_counted() -> None:
    setting = Setting()
    model = setting.add(held(setting.clock), FakeRunner(echo=True))
    with pytest.raises(InvalidInput):
        await setting.servicer.ModelInfer(b"\xff", Context())
    with pytest.raises(InvalidInput):
        await setting.infer(request_of(rows=9))
    assert model.statistics.fail.count == 1


async def test_the_deadline_is_the_callers_or_the_parameters() -> None:
    setting = Setting()
    model = setting.add(held(setting.clock), FakeRunner(times=((1, 1.0),)))
    hurried = request_of()
    hurried.parameters["timeout"].int64_param = 3_000_000
    calls = [asyncio.create_task(setting.infer(message, 9.0)) for message in (request_of(), hurried, request_of())]
    await turns(1)
    assert sorted(call.deadline - setting.clock.now for call in model._queue.items) == pytest.approx([3.0, 9.0, 9.0])
    with pytest.raises(DeadlineExceeded):
        await setting.infer(request_of(), 0.0)
    for call in calls:
        call.cancel()
    await asyncio.wait(calls)


async def test_a_caller_that_goes_away_leaves_the_queue() -> None:
    setting = Setting()
    model = setting.add(held(setting.clock), FakeRunner(times=((1, 1.0),)))
    first = asyncio.create_task(setting.infer(request_of()))
    await turns()
    second = asyncio.create_task(setting.infer(request_of()))
    await turns()
    assert model.queued_rows == 1
    for task in (first, second):
        task.cancel()
    await asyncio.wait({first, second})
    assert model.queued_rows == 0


async def test_readiness_is_that_of_the_models_and_ends_with_the_drain() -> None:
    setting, nothing = Setting(), oip.ServerReadyRequest()

    async def ready() -> bool:
        return (await setting.servicer.ServerReady(nothing, None)).ready

    assert (await setting.servicer.ServerLive(oip.ServerLiveRequest(), None)).live
    assert not await ready(), "with nothing to ask for it is not ready"
    model = setting.add(held(setting.clock))
    assert not await ready()
    model.attach(FakeRunner())
    assert await ready()
    setting.serving.drain()
    assert not await ready()


async def test_model_ready_is_a_plain_answer_even_for_unknown_ones() -> None:
    setting = Setting()
    setting.add(held(setting.clock), FakeRunner())

    async def ready(**fields: Any) -> bool:
        return (await setting.servicer.ModelReady(oip.ModelReadyRequest(**fields), None)).ready

    assert await ready(name="d")
    assert await ready(name="d", version="1")
    assert not await ready(name="d", version="2")
    assert not await ready(name="e")


async def test_metadata_and_configuration_come_from_the_signature() -> None:
    setting = Setting()
    version = version_of([("x", "BYTES", (-1, 2))], [("y", "FP32", (-1, 3))])
    setting.add(held(setting.clock, version), FakeRunner())
    metadata = await setting.servicer.ModelMetadata(oip.ModelMetadataRequest(name="d"), None)
    assert (metadata.name, list(metadata.versions)) == ("d", ["1"])
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.inputs] == [("x", "BYTES", [-1, 2])]
    assert [(t.name, t.datatype, list(t.shape)) for t in metadata.outputs] == [("y", "FP32", [-1, 3])]
    answer = (await setting.servicer.ModelConfig(oip.ModelConfigRequest(name="d"), None)).config
    assert (answer.name, answer.max_batch_size, answer.backend) == ("d", 8, "fake")
    assert (answer.input[0].data_type, list(answer.input[0].dims)) == (config.TYPE_STRING, [2])
    assert (answer.output[0].data_type, list(answer.output[0].dims)) == (config.TYPE_FP32, [3])
    assert answer.HasField("dynamic_batching")
    assert not answer.HasField("sequence_batching")


async def test_configuration_without_a_batch_dimension_shows_whole_shapes() -> None:
    setting = Setting()
    version = version_of([("x", "FP32", (4, 2))], [("y", "BF16", (1,))], max_batch_size=0)
    setting.add(held(setting.clock, version), FakeRunner())
    answer = (await setting.servicer.ModelConfig(oip.ModelConfigRequest(name="d"), None)).config
    assert (list(answer.input[0].dims), answer.max_batch_size) == ([4, 2], 0)
    assert not answer.HasField("dynamic_batching")


async def test_statistics_are_of_one_model_or_of_all() -> None:
    setting = Setting()
    for number in ("1", "2"):
        setting.add(numbered(setting, number), FakeRunner(echo=True))
    await setting.infer(request_of(model_version="2"))

    async def counts(**fields: Any) -> dict[str, int]:
        response = await setting.servicer.ModelStatistics(oip.ModelStatisticsRequest(**fields), None)
        return {stats.version: stats.inference_count for stats in response.model_stats}

    assert await counts() == {"1": 0, "2": 1}
    assert await counts(name="d") == {"1": 0, "2": 1}
    assert await counts(name="d", version="2") == {"2": 1}
    with pytest.raises(NotFound):
        await counts(name="e")


async def test_server_metadata_names_what_clients_look_for() -> None:
    metadata = await Setting().servicer.ServerMetadata(oip.ServerMetadataRequest(), None)
    assert metadata.name == "infermesh-worker"
    assert "statistics" in metadata.extensions
