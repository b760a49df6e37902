"""Inference through the client: encoding, answers, errors, deadlines, repeats, streams, traces."""

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from infermesh import errors
from infermesh.client import AsyncClient
from infermesh.client.inference import decode_response, encode_request
from infermesh.oip.v2 import grpc_service_pb2 as oip
from tests.unit.client.fake_mesh import FakeMesh, Inference

NUMBERS = st.sampled_from(["?", "u1", "<u2", ">u4", "u8", "i1", "i2", ">i4", "i8", "f2", ">f4", "f8"])
ARRAYS = NUMBERS.flatmap(
    lambda kind: hnp.arrays(kind, hnp.array_shapes(min_dims=0, max_dims=4, min_side=0, max_side=4))
)


@given(st.dictionaries(st.text(min_size=1, max_size=8), ARRAYS, max_size=3))
def test_arrays_survive_the_way_there_and_back(inputs: dict[str, Any]) -> None:
    request = encode_request("digits", inputs, version="3", request_id="r")
    response = oip.ModelInferResponse(
        model_name="digits", model_version="3", id="r", raw_output_contents=request.raw_input_contents
    )
    for spec in request.inputs:
        response.outputs.add(name=spec.name, datatype=spec.datatype, shape=spec.shape)
    result = decode_response(oip.ModelInferResponse.FromString(response.SerializeToString()))
    assert list(result) == list(inputs)
    assert (result.model, result.version, result.request_id) == ("digits", "3", "r")
    for name, array in inputs.items():
        np.testing.assert_array_equal(result[name], array)
        assert result[name].dtype == array.dtype.newbyteorder("<")


@given(st.lists(st.text(max_size=5)))
def test_text_travels_as_utf8(words: list[str]) -> None:
    request = encode_request("m", {"words": np.array(words, dtype=object)})
    assert [item.decode() for item in decode_response(Inference.answer(request))["words"]] == words


async def test_infer_asks_for_what_it_was_told(client: AsyncClient, mesh: FakeMesh) -> None:
    inputs = {"a": np.ones((2, 3), np.float32), "b": [1, 2]}
    result = await client.infer("digits", inputs, version="prod", outputs=["a"], request_id="r1", priority=3)
    assert list(result) == ["a"]
    np.testing.assert_array_equal(result["a"], np.full((2, 3), 2, np.float32))
    (request,) = mesh.inference.requests
    assert (request.model_name, request.model_version, request.id) == ("digits", "prod", "r1")
    assert request.parameters["priority"].int64_param == 3
    assert request.inputs[1].datatype == "INT64"


async def test_the_deadline_travels(client: AsyncClient, mesh: FakeMesh) -> None:
    await client.infer("digits", {"a": np.ones(1)}, timeout=3)
    await client.infer("digits", {"a": np.ones(1)})
    await client.infer("digits", {"a": np.ones(1)}, timeout=float("inf"))
    short, usual, none = mesh.inference.remaining
    assert short is not None
    assert usual is not None
    assert 0 < short < 5 < usual < 12  # gRPC rounds a deadline up a little
    assert none is None


async def test_a_deadline_that_has_passed_sends_nothing(client: AsyncClient, mesh: FakeMesh) -> None:
    with pytest.raises(errors.DeadlineExceeded):
        await client.infer("digits", {"a": np.ones(1)}, timeout=-1)
    assert not mesh.inference.requests


@pytest.mark.parametrize(
    "error",
    [
        errors.BadTensor.of("image", "FP32[-1,4]", "FP64[1,4]"),
        errors.NotFound.of("deployment", "digits"),
        errors.LoadFailed("version 2: tensor 'logits' differs"),
        errors.Overloaded("queue full"),
        errors.WorkerLost("the worker died", retry_after=0.001),
        errors.NotReady("connection reset"),
    ],
    ids=lambda error: type(error).__name__,
)
async def test_errors_arrive_as_what_they_were_and_are_not_repeated(
    client: AsyncClient, mesh: FakeMesh, error: errors.MeshError
) -> None:
    mesh.inference.failures = [error]
    with pytest.raises(type(error)) as caught:
        await client.infer("digits", {"image": np.ones((1, 4))})
    assert type(caught.value) is type(error)
    assert caught.value.reason == error.reason
    assert caught.value.message == error.message
    assert caught.value.metadata == error.metadata
    assert len(mesh.inference.requests) == 1


@pytest.mark.parametrize("kind", [errors.NotReady, errors.Overloaded])
async def test_a_call_that_was_refused_is_repeated(
    client: AsyncClient, mesh: FakeMesh, kind: type[errors.MeshError]
) -> None:
    mesh.inference.failures = [kind("later", retry_after=0.001), kind("later", retry_after=0.002)]
    result = await client.infer("digits", {"a": np.ones(1)})
    assert result.version == "7"
    assert len(mesh.inference.requests) == 3


async def test_a_long_pause_is_left_to_the_caller(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.inference.failures = [errors.NotReady("loading", retry_after=60)]
    with pytest.raises(errors.NotReady) as caught:
        await client.infer("digits", {"a": np.ones(1)})
    assert caught.value.retry_after == 60


async def test_an_odd_dtype_is_named(client: AsyncClient, mesh: FakeMesh) -> None:
    with pytest.raises(errors.InvalidInput, match="complex128"):
        await client.infer("digits", {"a": np.ones(1, np.complex128)})
    assert not mesh.inference.requests


def test_an_answer_without_its_contents_is_refused() -> None:
    response = oip.ModelInferResponse(model_name="m")
    response.outputs.add(name="a", datatype="FP32", shape=[1])
    with pytest.raises(errors.Internal, match="1 outputs, but 0"):
        decode_response(response)


async def test_stream_yields_every_answer_and_drops_the_empty_end(client: AsyncClient, mesh: FakeMesh) -> None:
    results = [result async for result in client.infer_stream("digits", {"a": np.ones(2)})]
    assert [result["a"].tolist() for result in results] == [[2, 2]] * 3
    assert mesh.inference.metadata[0]["triton_grpc_error"] == "true"


async def test_stream_errors_keep_their_class(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.inference.failures = [errors.WorkerLost("gone")]
    stream = client.infer_stream("digits", {"a": np.ones(2)})
    for _ in range(3):
        assert (await anext(stream)).version == "7"
    with pytest.raises(errors.WorkerLost):
        await anext(stream)


async def test_in_band_errors_are_errors(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.inference.in_band = "no such thing"
    with pytest.raises(errors.MeshError, match="no such thing"):
        [result async for result in client.infer_stream("digits", {"a": np.ones(2)})]


async def test_leaving_a_stream_cancels_it(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.inference.stream_length = 1_000_000
    stream = client.infer_stream("digits", {"a": np.ones(2)})
    async for _ in stream:
        break
    await stream.aclose()  # type: ignore[attr-defined]
    await asyncio.wait_for(mesh.inference.cancelled.wait(), 5)


async def test_the_current_span_travels(client: AsyncClient, mesh: FakeMesh) -> None:
    from opentelemetry import trace

    context = trace.SpanContext(0xA, 0xB, is_remote=False, trace_flags=trace.TraceFlags(1))
    with trace.use_span(trace.NonRecordingSpan(context)):
        await client.infer("digits", {"a": np.ones(1)})
    await client.infer("digits", {"a": np.ones(1)})
    inside, outside = mesh.inference.metadata
    assert inside["traceparent"] == f"00-{0xA:032x}-{0xB:016x}-01"
    assert "traceparent" not in outside


async def test_health_metadata_and_statistics(client: AsyncClient) -> None:
    assert await client.live()
    assert await client.ready()
    assert await client.ready("digits")
    assert not await client.ready("other")
    assert (await client.metadata("digits")).inputs[0].name == "image"
    assert (await client.statistics())[0].inference_count == 12
    assert (await client.server_metadata()).name == "infermesh"
    with pytest.raises(errors.NotFound):
        await client.metadata("other")


async def test_closing_ends_calls_under_way(mesh: FakeMesh) -> None:
    client = AsyncClient(mesh.address)
    mesh.inference.hold = asyncio.Event()
    call = asyncio.create_task(client.infer("digits", {"a": np.ones(1)}))
    await mesh.inference.arrived.wait()
    await client.close()
    with pytest.raises(errors.Cancelled):
        await call
    with pytest.raises(errors.FailedPrecondition, match="closed"):
        await client.infer("digits", {"a": np.ones(1)})


async def test_cancelling_the_task_cancels_the_call(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.inference.hold = asyncio.Event()
    call = asyncio.create_task(client.infer("digits", {"a": np.ones(1)}))
    await mesh.inference.arrived.wait()
    call.cancel()
    with pytest.raises(asyncio.CancelledError):
        await call
    await asyncio.wait_for(mesh.inference.cancelled.wait(), 5)


async def test_no_mesh_is_neither_live_nor_ready() -> None:
    async with AsyncClient("127.0.0.1:1", timeout=0.3) as client:
        assert not await client.live()
        assert not await client.ready()
        with pytest.raises(errors.NotReady):
            await client.infer("digits", {"a": np.ones(1)})
