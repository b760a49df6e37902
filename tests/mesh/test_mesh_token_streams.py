"""Token streams over real processes and real clients: every token comes once and in order, whatever happens to workers;
a stream that can't go on says so."""

import asyncio
import threading
from collections import defaultdict

import numpy as np
import pytest
import tritonclient.grpc as triton

from infermesh.client import AsyncClient, Client, Retry
from infermesh.errors import DeadlineExceeded, InvalidInput, Unsupported, WorkerLost
from infermesh.testing import LocalMesh, MeshOptions
from infermesh.testing.tokens import push_tokens, token_request

STEP = 0.01
SOON = 30.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory):
    """Two workers with the token engine: `tokens` has slots for all, `narrow` two on each worker."""
    options = MeshOptions(workers=2, device="cpu", start_timeout=60.0, flags={"worker": ["--allow-python"]})
    with LocalMesh(tmp_path_factory.mktemp("tokens"), options) as running, Client(running.gateway) as client:
        for name, slots in (("tokens", 256), ("narrow", 2)):
            version = push_tokens(client, name, step=STEP, slots=slots)
            client.deploy(name, version=version, replicas=2, timeout=60)
        yield running


@pytest.fixture
async def client(mesh):
    async with AsyncClient(mesh.gateway, retry=Retry(attempts=1)) as connected:
        yield connected


async def read(client, stream, count, got=None, *, model="tokens", timeout=SOON):
    """Reads the tokens of one stream into `got`, and returns it."""
    got = [] if got is None else got
    async for result in client.infer_stream(model, token_request(stream, count), timeout=timeout):
        assert result["stream"].tolist() == [stream]
        got += result["token"].tolist()
    return got


async def begun(streams):
    """Returns once every stream has its first token."""
    async with asyncio.timeout(SOON):
        while not all(streams):  # noqa: ASYNC110  # a list tells nobody that it has grown
            await asyncio.sleep(STEP)


async def test_every_token_of_fifty_streams_comes_once_and_in_order(client):
    streams = await asyncio.gather(*(read(client, stream, 100) for stream in range(50)))
    assert streams == [list(range(100))] * 50


def test_tritons_client_reads_fifty_requests_on_one_stream(mesh):
    found, finals, done = defaultdict(list), [], threading.Event()

    def take(result, error):
        assert error is None, error
        response = result.get_response()
        if response.outputs:
            found[response.id].append(int(result.as_numpy("token")[0]))
        if response.parameters["triton_final_response"].bool_param:
            finals.append(response.id)
            if len(finals) == 50:
                done.set()

    with triton.InferenceServerClient(mesh.gateway) as client:
        assert client.get_model_config("tokens").config.model_transaction_policy.decoupled
        client.start_stream(take)
        for number in range(50):
            inputs = [triton.InferInput(name, [1], "INT64") for name in ("stream", "start", "count")]
            for tensor, value in zip(inputs, (number, number, 40), strict=True):
                tensor.set_data_from_numpy(np.array([value]))
            client.async_stream_infer("tokens", inputs, request_id=str(number))
        assert done.wait(SOON)
        client.stop_stream()
    assert found == {str(number): list(range(number, number + 40)) for number in range(50)}
    assert sorted(finals, key=int) == [str(number) for number in range(50)]


async def test_one_that_is_refused_leaves_the_others_be(client):
    async def refused():
        with pytest.raises(InvalidInput, match="count: expected 1 or more, got 0"):
            await read(client, 9, 0)

    streams = await asyncio.gather(refused(), *(read(client, stream, 20) for stream in range(4)))
    assert streams[1:] == [list(range(20))] * 4


async def test_a_unary_call_is_told_that_there_may_be_many_responses(client):
    with pytest.raises(Unsupported, match="ModelStreamInfer"):
        await client.infer("tokens", token_request(1, 5))


async def test_callers_who_leave_free_their_slots(client):
    """Sequences that nobody waits for end in the engine: else these four would wait for ever."""

    async def leave(stream):
        async for result in client.infer_stream("narrow", token_request(stream, 1_000_000)):
            if result["token"][0] == 3:
                break

    await asyncio.gather(*(leave(stream) for stream in range(4)))
    streams = await asyncio.gather(*(read(client, stream, 20, model="narrow") for stream in range(4)))
    assert streams == [list(range(20))] * 4


async def test_a_deadline_ends_a_stream_and_frees_its_slot(client):
    got = []
    for _ in range(5):
        with pytest.raises(DeadlineExceeded):
            await read(client, 1, 1_000_000, got, model="narrow", timeout=0.3)
    assert got[:3] == [0, 1, 2]
    assert await read(client, 2, 20, model="narrow") == list(range(20))


async def test_streams_wait_for_a_slot(client):
    streams = await asyncio.gather(*(read(client, stream, 20, model="narrow") for stream in range(12)))
    assert streams == [list(range(20))] * 12


async def test_a_worker_that_is_told_to_stop_finishes_its_streams(mesh, client):
    got = [[] for _ in range(20)]
    reading = asyncio.gather(*(read(client, stream, 200, got[stream]) for stream in range(20)))
    await begun(got)
    await asyncio.to_thread(mesh.stop, "worker-2")  # while the streams are read
    assert await read(client, 77, 10) == list(range(10))
    assert await reading == [list(range(200))] * 20
    assert mesh.processes["worker-2"].returncode == 0
    mesh.restart("worker-2")  # here: a service ends with the thread that started it


async def test_a_stream_whose_worker_dies_ends_with_unavailable(mesh, client):
    """Never silently, and no other stream suffers. Those that had not begun go elsewhere."""
    await served_by_both(client)
    got = [[] for _ in range(20)]
    reading = asyncio.gather(*(read(client, n, 300, got[n]) for n in range(20)), return_exceptions=True)
    await begun(got)
    await asyncio.to_thread(mesh.kill, "worker-2")
    ends = await reading
    cut = [n for n, end in enumerate(ends) if isinstance(end, WorkerLost)]
    assert 0 < len(cut) < 20
    assert all(got[n] == list(range(len(got[n]))) and len(got[n]) < 300 for n in cut)
    assert all(end == list(range(300)) for n, end in enumerate(ends) if n not in cut)


async def served_by_both(client):
    """Returns once both workers have the engine ready."""
    async with asyncio.timeout(SOON):
        while (await client.get_deployment("tokens")).versions[0].ready_replicas < 2:  # noqa: ASYNC110
            await asyncio.sleep(0.1)
