"""The blocking client: the same calls on a thread of its own."""

import asyncio
import inspect
import threading
from collections.abc import Iterator

import numpy as np
import pytest

from infermesh import errors
from infermesh.client import AsyncClient, Client, ModelService, Retry
from infermesh.client.sync import LoopThread
from tests.unit.client.fake_mesh import FakeMesh

INPUTS = {"image": np.ones((2, 4), np.float32)}


@pytest.fixture
def served() -> Iterator[FakeMesh]:
    """A fake mesh on an event loop of its own, as a real one would be in another process."""
    thread = LoopThread()
    fake = FakeMesh()
    thread.run(fake.__aenter__())
    yield fake
    thread.run(fake.__aexit__())
    thread.stop()


@pytest.fixture
def client(served: FakeMesh) -> Iterator[Client]:
    with Client(served.address, timeout=10, retry=Retry(first=0.001)) as connected:
        yield connected


def _public(cls: type) -> set[str]:
    return {name for name, _ in inspect.getmembers(cls) if not name.startswith("_")}


def test_it_has_every_call_of_the_asynchronous_one() -> None:
    assert _public(Client) - _public(AsyncClient) == {"infer_async"}
    assert _public(AsyncClient) <= _public(Client)


@pytest.mark.parametrize("name", sorted(_public(AsyncClient) - {"address", "close"}))
def test_signatures_and_docstrings_are_the_same(name: str) -> None:
    ours, theirs = getattr(Client, name), getattr(AsyncClient, name)
    assert inspect.signature(ours) == inspect.signature(theirs)
    assert ours.__doc__ == theirs.__doc__


def test_calls_block(client: Client, served: FakeMesh) -> None:
    served.add_version()
    client.deploy("digits")
    result = client.infer("digits", INPUTS)
    np.testing.assert_array_equal(result["image"], INPUTS["image"] * 2)
    assert [deployment.name for deployment in client.deployments()] == ["deployments/digits"]
    assert client.live()
    assert client.address == served.address


def test_errors_come_through(client: Client, served: FakeMesh) -> None:
    served.inference.failures = [errors.BadTensor.of("image", "FP32", "FP64")]
    with pytest.raises(errors.BadTensor, match="image"):
        client.infer("digits", INPUTS)


def test_many_calls_at_once(client: Client) -> None:
    futures = [client.infer_async("digits", {"n": np.array([number])}) for number in range(50)]
    assert [future.result(10)["n"].item() for future in futures] == [2 * number for number in range(50)]


def test_many_threads_at_once(client: Client) -> None:
    answers: dict[int, int] = {}

    def call(number: int) -> None:
        answers[number] = client.infer("digits", {"n": np.array([number])})["n"].item()

    threads = [threading.Thread(target=call, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)
    assert answers == {number: 2 * number for number in range(8)}


def test_streams_iterate(client: Client) -> None:
    assert len(list(client.infer_stream("digits", INPUTS))) == 3


def test_a_stream_left_early_is_cancelled(client: Client, served: FakeMesh) -> None:
    served.inference.stream_length = 1_000_000
    stream = client.infer_stream("digits", INPUTS)
    next(stream)
    stream.close()  # type: ignore[attr-defined]
    for _ in range(1000):
        client.live()
        if served.inference.cancelled.is_set():
            break
    assert served.inference.cancelled.is_set()


def test_closing_twice_is_fine_and_ends_the_thread(served: FakeMesh) -> None:
    before = set(threading.enumerate())
    client = Client(served.address)
    client.close()
    client.close()
    assert "infermesh-client" not in {thread.name for thread in threading.enumerate() if thread not in before}
    with pytest.raises(errors.FailedPrecondition, match="closed"):
        client.live()


def test_a_bad_address_leaves_no_thread() -> None:
    before = threading.active_count()
    with pytest.raises(errors.InvalidInput):
        Client("nonsense")
    assert threading.active_count() == before


def test_it_works_inside_a_running_loop(served: FakeMesh) -> None:
    async def main() -> bool:
        with Client(served.address) as client:
            return client.live()

    assert asyncio.run(main())


def test_the_textbook_example(served: FakeMesh) -> None:
    served.add_version("digits", 1)
    served.add_version("digits", 2)
    s = ModelService()
    s.connect_repository(served.address)
    s.connect_resource(f"http://{served.address}")
    model = s.load_model("digits")
    assert model.name == "models/digits/versions/2"
    assert s.allocate_resource(model) == "digits"
    np.testing.assert_array_equal(s.predict(INPUTS["image"]), INPUTS["image"] * 2)
    both = s.predict({"image": INPUTS["image"], "extra": np.ones(1)})
    assert set(both) == {"image", "extra"}  # type: ignore[call-overload]
    assert s.load_model("digits@1").name.endswith("/1")
    s.connect_resource(served.address)
    s.close()


def test_the_textbook_example_in_the_wrong_order(served: FakeMesh) -> None:
    s = ModelService()
    with pytest.raises(errors.FailedPrecondition, match="connect_repository"):
        s.load_model("digits")
    with pytest.raises(errors.FailedPrecondition, match="load_model"):
        s.predict(np.ones(1))
    s.connect_repository(served.address)
    with pytest.raises(errors.NotFound):
        s.load_model("digits")
    s.close()


def test_a_model_with_two_inputs_wants_names(served: FakeMesh) -> None:
    served.add_version("digits").signature.inputs.add(name="mask", datatype="FP32", shape=[-1])
    s = ModelService()
    s.connect_repository(served.address)
    s.connect_resource(served.address)
    s.allocate_resource(s.load_model("digits"))
    with pytest.raises(errors.InvalidInput, match="image, mask"):
        s.predict(np.ones(1))
    s.close()
