"""ModelStreamInfer as one worker answers it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest

from infermesh.errors import InvalidInput, ModelFailed, Unsupported
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.worker.oip_servicer import InferenceServicer
from infermesh.worker.serving import Serving
from tests.unit.worker.engine_fakes import FakeEngine, decoupled_version, soon
from tests.unit.worker.worker_fakes import Clock, FakeRunner, held, request_of


class Context:
    """As much of a call's context as the servicer looks at."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        self._metadata = metadata

    def time_remaining(self) -> float | None:
        return None

    def invocation_metadata(self) -> Any:
        return self._metadata


class Setting:
    """A worker whose decoupled `d/1` runs on an engine in the test's hands, and one stream to it."""

    def __init__(self, *metadata: tuple[str, str]) -> None:
        serving = Serving()
        self.model, self.engine = held(Clock(), decoupled_version(), changed=serving.changed), FakeEngine()
        serving.add(self.model)
        self.model.attach(self.engine)
        self.servicer = InferenceServicer(serving, Clock())
        self.requests: asyncio.Queue[bytes | None] = asyncio.Queue()
        self.answers = self.servicer.ModelStreamInfer(self._asked(), Context(*metadata))

    async def _asked(self) -> AsyncIterator[bytes]:
        while (request := await self.requests.get()) is not None:
            yield request

    async def ask(self, *ids: str) -> "asyncio.Task[oip.ModelStreamInferResponse]":
        """Sends requests, and returns the task of the first answer."""
        for number in ids:
            self.requests.put_nowait(request_of(id=number).SerializeToString())
        first = asyncio.ensure_future(self.next())
        await soon()
        await soon()
        return first

    async def next(self) -> oip.ModelStreamInferResponse:
        return oip.ModelStreamInferResponse.FromString(await asyncio.wait_for(anext(self.answers), 5))


def final(message: oip.ModelStreamInferResponse) -> bool:
    return bool(message.infer_response.parameters["triton_final_response"].bool_param)


async def test_responses_come_as_they_are_given_and_the_last_says_so() -> None:
    setting = Setting()
    first = await setting.ask("a", "b")
    setting.requests.put_nowait(None)
    setting.engine.step({1: 1.0, 2: 2.0})
    setting.engine.step({1: 3.0}, 1)
    setting.engine.end(2)
    messages = [await first, *[oip.ModelStreamInferResponse.FromString(m) async for m in setting.answers]]
    assert [(m.infer_response.id, final(m)) for m in messages] == [("a", False), ("b", False), ("a", True)]
    assert messages[0].infer_response.raw_output_contents[1] == b"\x01\0\0\x001"


async def test_an_error_is_told_within_and_leaves_the_others_be() -> None:
    setting = Setting()
    first = await setting.ask("a", "b")
    setting.engine.end(1, error=ModelFailed("no more"))
    setting.engine.step({2: 2.0}, 2)
    failed, good = await first, await setting.next()
    assert (failed.infer_response.id, final(failed), failed.error_message) == ("a", True, "no more")
    assert (good.infer_response.id, good.error_message) == ("b", "")


async def test_an_error_ends_the_stream_of_a_caller_who_wants_that() -> None:
    setting = Setting(("triton_grpc_error", "true"))
    first = await setting.ask("a", "b")
    setting.engine.end(1, error=InvalidInput("not that"))
    with pytest.raises(InvalidInput, match="not that"):
        await first
    assert setting.engine.forgotten == [2], "nobody waits for the other any more"


async def test_a_request_that_is_none_is_told_so() -> None:
    setting = Setting()
    setting.requests.put_nowait(b"\xff")
    assert "serialised ModelInferRequest" in (await setting.next()).error_message


async def test_a_caller_who_leaves_ends_the_sequences() -> None:
    setting = Setting()
    first = await setting.ask("a")
    setting.engine.step({1: 1.0})
    await first
    await setting.answers.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert setting.engine.forgotten == [1]
    assert setting.model.in_flight == 0


async def test_a_caller_who_does_not_read_is_cut(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("infermesh.worker.oip_stream._UNREAD", 300)
    setting = Setting()
    first = await setting.ask("a")
    for number in range(9):
        setting.engine.step({1: float(number)})
    await first
    while not (message := await setting.next()).error_message:
        assert message.infer_response.id == "a"
    assert "not read in time" in message.error_message
    assert setting.engine.forgotten == [1]


async def test_other_models_answer_once() -> None:
    setting = Setting()
    serving = Serving()
    model, runner = held(Clock(), changed=serving.changed), FakeRunner(echo=True)
    serving.add(model)
    model.attach(runner)
    setting.servicer = InferenceServicer(serving, Clock())
    setting.answers = setting.servicer.ModelStreamInfer(setting._asked(), Context())
    message = await (await setting.ask("a"))
    assert (message.infer_response.id, final(message)) == ("a", True)


async def test_a_unary_call_of_a_decoupled_model_is_refused() -> None:
    with pytest.raises(Unsupported, match="ModelStreamInfer"):
        await Setting().servicer.ModelInfer(request_of().SerializeToString(), Context())
