"""A gateway's stream: what goes in comes out once, in bundles, with loads and credit."""

import asyncio
from math import inf
from typing import Any

import pytest
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from opentelemetry.trace import NoOpTracer, Tracer

from infermesh import errors
from infermesh.errors import DeadlineExceeded, InvalidInput, MeshError, NotReady, WorkerLost
from infermesh.mesh.parcel import Parcel, read
from infermesh.mesh.status import from_status
from infermesh.v1 import model_pb2
from infermesh.v1 import worker_service_pb2 as pb
from infermesh.worker.models import HeldModel
from infermesh.worker.serving import Serving
from infermesh.worker.streams import GatewayStream
from tests.unit.worker.worker_fakes import (
    Clock,
    FakeRunner,
    floats,
    held,
    request_of,
    said,
    turns,
    values_of,
    version_of,
)


class Setting:
    """A worker that serves `d/1`, with one stream."""

    def __init__(
        self,
        runner: FakeRunner | None = None,
        tracer: Tracer | None = None,
        version: model_pb2.ModelVersion | None = None,
    ) -> None:
        self.clock, self.serving = Clock(), Serving()
        self.model: HeldModel = held(self.clock, version, changed=self.serving.changed)
        self.serving.add(self.model)
        self.runner = runner or FakeRunner(echo=True)
        self.model.attach(self.runner)
        self.streams = 1
        self.stream = GatewayStream(self.serving, self.clock, tracer or NoOpTracer(), lambda: self.streams)

    def take(self, *items: pb.WorkItem) -> None:
        self.stream.take(pb.WorkBundle(items=items))

    async def results(self, count: int) -> dict[int, pb.ResultItem]:
        found: dict[int, pb.ResultItem] = {}
        while len(found) < count:
            bundle = await self.bundle()
            for result in bundle.results:
                assert result.id not in found, "every call has one result"
                found[result.id] = result
        return found

    async def bundle(self) -> pb.ResultBundle:
        async with asyncio.timeout(5):
            while (bundle := said(self.stream)) is None:  # noqa: ASYNC110
                await asyncio.sleep(0)
        return bundle


def large_item(number: int, values: list[float]) -> pb.WorkItem:
    request = request_of()
    request.inputs[0].shape[:] = [1, len(values)]
    request.raw_input_contents[0] = floats(*values)
    return pb.WorkItem(id=number, kind=pb.WorkItem.INFER, target="d/1", payload=request.SerializeToString())


def item(number: int, value: float = 1.0, **fields: Any) -> pb.WorkItem:
    fields.setdefault("kind", pb.WorkItem.INFER)
    fields.setdefault("target", "d/1")
    fields.setdefault("payload", request_of(value=value).SerializeToString())
    return pb.WorkItem(id=number, **fields)


async def test_the_worker_speaks_first_with_every_load() -> None:
    setting = Setting()
    bundle = await setting.bundle()
    assert [load.target for load in bundle.loads] == ["d/1"]
    assert bundle.loads[0].credit == setting.model.credit
    assert bundle.loads[0].service_time_us > 0
    assert not bundle.draining
    assert said(setting.stream) is None, "and then is silent until there is news"


async def test_results_of_one_batch_travel_together_with_the_load() -> None:
    setting = Setting()
    await setting.bundle()
    setting.take(*(item(number, float(number)) for number in range(1, 6)))
    bundle = await setting.bundle()
    assert [result.id for result in bundle.results] == [1, 2, 3, 4, 5]
    assert all(result.final and values_of(result.payload) == [result.id] * 2 for result in bundle.results)
    assert [load.target for load in bundle.loads] == ["d/1"]
    assert bundle.loads[0].in_flight == 0
    assert not setting.stream.busy


async def test_a_stream_item_is_marked_final_in_its_response() -> None:
    setting = Setting()
    setting.take(item(1, kind=pb.WorkItem.STREAM))
    result = (await setting.results(1))[1]
    assert b"triton_final_response" in result.payload
    assert result.final


@pytest.mark.parametrize(
    ("bad", "error", "not_started"),
    [
        (item(1, target="other/1"), NotReady, True),
        (item(1, payload=b"\xff"), InvalidInput, False),
        (item(1, kind=pb.WorkItem.KIND_UNSPECIFIED), InvalidInput, False),
        (item(1, payload=request_of(rows=9).SerializeToString()), InvalidInput, False),
    ],
)
async def test_a_refused_item_gets_its_answer(bad: pb.WorkItem, error: type[MeshError], not_started: bool) -> None:
    setting = Setting()
    setting.take(bad, item(2))
    results = await setting.results(2)
    assert isinstance(from_status(results[1].error), error)
    assert results[1].not_started is not_started
    assert not results[2].HasField("error")


async def test_an_id_that_is_in_use_is_refused_and_the_first_call_goes_on() -> None:
    setting = Setting(FakeRunner(times=((1, 1.0),)))
    setting.take(item(1, 5.0))
    setting.take(item(1))
    bundle = await setting.bundle()
    assert isinstance(from_status(bundle.results[0].error), InvalidInput)
    await turns()
    setting.runner.answer(0)
    assert values_of((await setting.results(1))[1].payload) == [5.0, 5.0]


async def test_deadlines_count_from_arrival_and_the_tighter_one_holds() -> None:
    setting = Setting(FakeRunner())
    slow = request_of()
    slow.parameters["timeout"].int64_param = 1_000_000
    setting.take(
        item(1, timeout_us=2_000_000),
        item(2),
        item(3, timeout_us=5_000_000, payload=slow.SerializeToString()),
    )
    now = setting.clock.now
    deadlines = {number: call.deadline for number, (_, call) in setting.stream._calls.items()}
    way_back = 0.005
    assert deadlines == {1: now + 2 - way_back, 2: inf, 3: now + 1}


async def test_an_expired_item_is_told_so() -> None:
    setting = Setting(FakeRunner(times=((1, 9.0),)))
    setting.take(item(1))
    await turns()
    setting.take(item(2, timeout_us=1))
    setting.clock.now += 1
    result = (await setting.results(1))[2]
    assert isinstance(from_status(result.error), DeadlineExceeded)
    assert len(setting.runner.runs) == 1


async def test_a_cancelled_item_has_no_result() -> None:
    setting = Setting(FakeRunner(times=((1, 1.0),)))
    setting.take(item(1))
    await turns()
    setting.take(item(2), pb.WorkItem(id=2, kind=pb.WorkItem.CANCEL), pb.WorkItem(id=77, kind=pb.WorkItem.CANCEL))
    setting.runner.answer(0)
    assert set(await setting.results(1)) == {1}
    await turns()
    assert len(setting.runner.runs) == 1
    assert not setting.stream.busy


async def test_large_tensors_are_taken_and_given_as_they_came() -> None:
    setting = Setting(version=version_of((("x", "FP32", (-1, 9000)),), (("y", "FP32", (-1, 9000)),)))
    items = [large_item(number, [float(number)] * 9000) for number in (1, 2)]
    for bundle in (items, [item(3), *items[1:], item(4)]):  # what is known the second time is recognised in place
        setting.stream.take(*read(pb.WorkBundle(items=bundle).SerializeToString(), pb.WorkBundle))
        results = await setting.results(len(bundle))
        for result in results.values():
            if result.id <= 2:
                assert values_of(result.payload) == [float(result.id)] * 9000
            else:
                assert isinstance(from_status(result.error), InvalidInput)


async def test_a_stream_that_ends_answers_first_what_it_has() -> None:
    setting, written = Setting(FakeRunner(times=((1, 1.0),))), []

    def write(parcel: Parcel[pb.ResultBundle]) -> None:
        written.extend(parcel.bundle.results)

    setting.stream.open(write)
    setting.take(item(1))
    await turns()
    setting.stream.end()
    ended = asyncio.create_task(setting.stream.ended())
    await turns()
    assert not ended.done()
    setting.runner.answer(0)
    await asyncio.wait_for(ended, 5)
    assert [result.id for result in written] == [1]


async def test_a_gateway_that_goes_takes_its_calls_with_it() -> None:
    setting = Setting(FakeRunner(times=((1, 1.0),)))
    setting.take(item(1))
    await turns()
    setting.take(item(2))
    setting.stream.close()
    setting.runner.answer(0)
    await turns()
    assert setting.model.in_flight == 0
    assert len(setting.runner.runs) == 1
    setting.stream.close()  # again does no harm


async def test_lost_work_says_whether_it_was_begun() -> None:
    setting = Setting(FakeRunner(times=((1, 1.0),)))
    setting.take(item(1))
    await turns()
    setting.take(item(2))
    lost = WorkerLost("the runner died")
    setting.model.detach(lost)
    setting.runner.fail(0, lost)
    results = await setting.results(2)
    assert {number: result.not_started for number, result in results.items()} == {1: False, 2: True}
    assert all(isinstance(from_status(result.error), WorkerLost) for result in results.values())


async def test_loads_are_sent_again_when_something_changes() -> None:
    setting = Setting()
    await setting.bundle()
    setting.streams = 4
    setting.stream.touch_all()
    whole = setting.model.credit
    assert (await setting.bundle()).loads[0].credit == -(-whole // 4)
    setting.model.retire()
    gone = (await setting.bundle()).loads[0]
    assert (gone.gone, gone.credit) == (True, 0)
    setting.model.attach(setting.runner)
    assert (await setting.bundle()).loads[0].credit
    setting.serving.remove(setting.model)
    assert (await setting.bundle()).loads[0].gone


async def test_credit_is_never_less_than_one() -> None:
    setting = Setting()
    setting.streams = 10_000
    assert (await setting.bundle()).loads[0].credit == 1


async def test_draining_is_said_once_even_without_other_news() -> None:
    setting = Setting()
    await setting.bundle()
    setting.serving.drain()
    assert (await setting.bundle()).draining
    assert said(setting.stream) is None
    setting.take(item(1))
    bundle = await setting.bundle()
    assert bundle.draining
    assert bundle.results[0].payload, "what arrives is still served"


async def test_draining_is_said_by_a_worker_that_holds_nothing() -> None:
    serving = Serving()
    stream = GatewayStream(serving, Clock(), NoOpTracer(), lambda: 1)
    first = said(stream)
    assert first is None or not first.draining
    serving.drain()
    second = said(stream)
    assert second is not None
    assert second.draining


def _leaves(cls: type[MeshError]) -> list[type[MeshError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _leaves(child))]


@pytest.mark.parametrize("cls", _leaves(MeshError), ids=lambda cls: cls.__name__)
async def test_every_error_of_the_tree_reaches_the_gateway_as_itself(cls: type[MeshError]) -> None:
    setting = Setting(FakeRunner())
    setting.take(item(1))
    await turns()
    setting.runner.fail(0, cls("it went wrong"))
    error = from_status((await setting.results(1))[1].error)
    if issubclass(cls, errors.Internal) or cls is MeshError:
        assert error.reason == "INTERNAL"
    else:
        assert type(error) is cls
        assert error.message == "it went wrong"


async def test_an_error_from_outside_the_tree_shows_nothing_of_itself() -> None:
    setting = Setting(FakeRunner())
    setting.take(item(1))
    await turns()
    setting.runner.fail(0, RuntimeError("secret"))
    error = from_status((await setting.results(1))[1].error)
    assert isinstance(error, errors.Internal)
    assert "secret" not in error.message
    assert "request id" in error.message


async def test_sampled_calls_are_traced_and_no_others() -> None:
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    setting = Setting(FakeRunner(), provider.get_tracer("test"))
    trace = "0af7651916cd43dd8448eb211c80319c"
    setting.take(
        item(1, traceparent=f"00-{trace}-b7ad6b7169203331-01"),
        item(2, traceparent=f"00-{trace}-b7ad6b7169203331-00"),
        item(3),
    )
    await turns()
    setting.runner.answer(0)
    assert len(await setting.results(3)) == 3
    (span,) = spans.get_finished_spans()
    assert span.context is not None
    assert f"{span.context.trace_id:032x}" == trace
    assert span.attributes is not None
    assert span.attributes["infermesh.target"] == "d/1"


async def test_a_probe_is_answered_with_all_loads_while_a_model_computes() -> None:
    setting = Setting(FakeRunner(echo=False))
    await setting.bundle()
    setting.take(item(1))
    await turns()
    while said(setting.stream) is not None:
        await turns()

    setting.stream.take(pb.WorkBundle(probe=7))

    answer = await setting.bundle()
    assert (answer.probe, [load.target for load in answer.loads], list(answer.results)) == (7, ["d/1"], [])
    assert said(setting.stream) is None


async def test_a_probe_is_answered_by_a_worker_that_holds_nothing() -> None:
    stream = GatewayStream(Serving(), Clock(), NoOpTracer(), lambda: 1)
    stream.take(pb.WorkBundle(probe=8))

    answer = said(stream)

    assert answer is not None
    assert answer.probe == 8
