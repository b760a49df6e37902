"""Sequences: each response comes once, in order, to its own call; a slot is free as soon as its sequence is over."""

import asyncio

import pytest
from opentelemetry.trace import NoOpTracer

from infermesh.errors import DeadlineExceeded, InvalidInput, ModelFailed, Unsupported, WorkerLost
from infermesh.mesh.status import from_status
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import worker_service_pb2 as pb
from infermesh.worker.models import HeldModel
from infermesh.worker.serving import Serving
from infermesh.worker.streams import GatewayStream
from tests.unit.worker.engine_fakes import FakeEngine, decoupled_version, soon
from tests.unit.worker.worker_fakes import Clock, held, request_of, said, values_of


class Setting:
    """A worker that serves the decoupled `d/1`, and a gateway's stream to it."""

    def __init__(self, slots: int = 4) -> None:
        self.clock, self.serving = Clock(), Serving()
        self.model: HeldModel = held(self.clock, decoupled_version(), changed=self.serving.changed)
        self.serving.add(self.model)
        self.engine = FakeEngine(slots)
        self.model.attach(self.engine)
        self.stream = GatewayStream(self.serving, self.clock, NoOpTracer(), lambda: 1)
        said(self.stream)

    async def begin(self, *numbers: int, **fields: object) -> None:
        self.stream.take(pb.WorkBundle(items=[item(number, **fields) for number in numbers]))
        await soon()

    def results(self) -> list[pb.ResultItem]:
        bundle = said(self.stream)
        return [] if bundle is None else list(bundle.results)


def item(number: int, **fields: object) -> pb.WorkItem:
    payload = request_of(id=f"r{number}").SerializeToString()
    return pb.WorkItem(**{"id": number, "kind": pb.WorkItem.STREAM, "target": "d/1", "payload": payload, **fields})


async def test_a_step_is_one_bundle_with_a_response_for_each() -> None:
    setting = Setting()
    await setting.begin(11, 12)
    setting.engine.step({1: 5.0, 2: 6.0})
    results = setting.results()
    assert [(result.id, result.final, values_of(result.payload)) for result in results] == [
        (11, False, [5.0, 5.0]),
        (12, False, [6.0, 6.0]),
    ]
    message = oip.ModelInferResponse.FromString(results[1].payload)
    assert (message.model_name, message.model_version, message.id) == ("d", "1", "r12")
    assert [(out.name, out.datatype, list(out.shape)) for out in message.outputs] == [
        ("y", "FP32", [2]),
        ("text", "BYTES", [1]),
    ]
    assert message.raw_output_contents[1] == b"\x01\0\0\x006"


async def test_outputs_of_fixed_size_are_put_together_alike() -> None:
    setting = Setting()
    await setting.begin(11, 12)
    setting.engine.step({2: 8.0, 1: 7.0}, text=False)
    assert {result.id: values_of(result.payload) for result in setting.results()} == {12: [8.0, 8.0], 11: [7.0, 7.0]}


async def test_the_last_response_ends_the_call_and_frees_its_slot() -> None:
    setting = Setting(slots=1)
    await setting.begin(11, 12)
    assert len(setting.engine.begun) == 1, "the other waits"
    setting.engine.step({1: 1.0})
    setting.engine.step({1: 2.0}, 1)
    assert [(result.id, result.final) for result in setting.results()] == [(11, False), (11, True)]
    await soon()
    assert len(setting.engine.begun) == 2
    setting.engine.end(2)
    (last,) = setting.results()
    assert (last.id, last.final, last.payload) == (12, True, b"")
    assert setting.model.in_flight == 0
    await setting.model.until_idle()


async def test_a_request_gets_the_outputs_that_it_asks_for() -> None:
    setting = Setting()
    wishes = request_of()
    wishes.outputs.add(name="text")
    await setting.begin(11, payload=wishes.SerializeToString())
    assert setting.engine.begun[0][1] == ("text",)
    setting.engine.step({1: 3.0})
    (result,) = setting.results()
    message = oip.ModelInferResponse.FromString(result.payload)
    assert [out.name for out in message.outputs] == ["text"]


async def test_one_that_fails_leaves_the_others_be() -> None:
    setting = Setting()
    await setting.begin(11, 12)
    setting.engine.end(1, error=InvalidInput("not that"))
    setting.engine.step({2: 1.0}, 2)
    first, second = setting.results()
    assert isinstance(from_status(first.error), InvalidInput)
    assert (second.id, second.final) == (12, True)


async def test_a_step_that_fails_fails_all_that_were_under_way() -> None:
    setting = Setting()
    await setting.begin(11, 12)
    setting.engine.end(1, 2, error=ModelFailed("no more"))
    assert {result.id for result in setting.results() if result.error.message == "no more"} == {11, 12}
    assert setting.model.in_flight == 0


async def test_a_cancelled_call_ends_in_the_engine_and_says_nothing_more() -> None:
    setting = Setting(slots=1)
    await setting.begin(11, 12)
    await setting.begin(11, kind=pb.WorkItem.CANCEL)
    assert setting.engine.forgotten == [1]
    assert len(setting.engine.begun) == 2, "its slot is free"
    setting.engine.step({1: 1.0, 2: 2.0})
    assert [result.id for result in setting.results()] == [12]


async def test_a_gateway_that_goes_ends_its_sequences() -> None:
    setting = Setting()
    await setting.begin(11, 12)
    setting.stream.close()
    assert sorted(setting.engine.forgotten) == [1, 2]
    assert setting.model.in_flight == 0


async def test_the_deadline_ends_a_sequence() -> None:
    setting = Setting()
    await setting.begin(11, timeout_us=1_000)
    async with asyncio.timeout(5):
        while not setting.engine.forgotten:
            await soon()
    results = setting.results()
    assert isinstance(from_status(results[-1].error), DeadlineExceeded)


async def test_a_runner_that_is_gone_ends_its_sequences_as_lost() -> None:
    setting = Setting(slots=2)
    await setting.begin(11, 12, 13)
    setting.engine.step({1: 1.0})
    setting.model.detach(WorkerLost("the runner died"))
    await soon()
    results = setting.results()
    assert {result.id: result.not_started for result in results if result.final} == {11: False, 12: False, 13: True}
    assert all(isinstance(from_status(result.error), WorkerLost) for result in results if result.final)


async def test_a_gateway_that_does_not_read_is_cut_off_from_what_would_not_fit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh.worker.streams._UNSENT", 1_000)
    setting = Setting()
    await setting.begin(11, 12)
    for number in range(30):
        setting.engine.step({1: float(number), 2: float(number)})
    results = setting.results()
    assert sorted(setting.engine.forgotten) == [1, 2]
    assert len(results) < 30
    assert {result.id for result in results if from_status(result.error).reason == "READER_TOO_SLOW"} == {11, 12}
    await setting.begin(13)
    setting.engine.step({3: 1.0}, 3)
    assert [result.id for result in setting.results()] == [13], "what was sent does not count any more"


async def test_credit_is_the_slots_of_the_engine() -> None:
    assert Setting(slots=7).model.credit == 7


async def test_a_unary_call_is_refused() -> None:
    setting = Setting()
    await setting.begin(11, kind=pb.WorkItem.INFER)
    (result,) = setting.results()
    assert isinstance(from_status(result.error), Unsupported)
    assert setting.engine.begun == []
