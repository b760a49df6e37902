"""Uploads: cuts, take-overs, wrong bytes, two at once, and the sweeper."""

import asyncio
from collections.abc import AsyncIterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from prometheus_client import CollectorRegistry

from infermesh.errors import Conflict, InvalidInput, NotFound, OutOfRange
from infermesh.mesh import metrics
from infermesh.registry.artifacts.memory import MemoryStore
from infermesh.registry.catalog import base
from infermesh.registry.catalog.base import UploadRecord
from infermesh.registry.threads import Threads
from infermesh.registry.uploads import Uploads
from infermesh.testing.clock import FakeClock
from infermesh.v1.artifact_service_pb2 import UploadArtifactRequest
from tests.unit.registry.messages import digest

DATA = b"0123456789"
DAY = 24 * 3600


class Records:
    """Upload records in a dictionary."""

    def __init__(self) -> None:
        self.all: dict[str, UploadRecord] = {}

    def put(self, record: UploadRecord) -> None:
        """See `base.Uploads`."""
        self.all[record.id] = record

    def get(self, upload: str) -> UploadRecord:
        """See `base.Uploads`."""
        if upload not in self.all:
            raise NotFound.of("upload", upload)
        return self.all[upload]

    def find(self, digest: str) -> list[UploadRecord]:
        """See `base.Uploads`."""
        return [record for record in self.all.values() if record.digest == digest]

    def expired(self, now: int) -> list[UploadRecord]:
        """See `base.Uploads`."""
        return [record for record in self.all.values() if record.expires < now]

    def forget(self, upload: str) -> None:
        """See `base.Uploads`."""
        self.all.pop(upload, None)


class Desk:
    """Uploads over fakes, in virtual time."""

    def __init__(self, threads: Threads) -> None:
        self.clock = FakeClock()
        self.store = MemoryStore()
        self.metrics = CollectorRegistry()
        self.records: base.Uploads = Records()
        self.uploads = Uploads(
            self.store,
            self.records,
            threads,
            now=lambda: int(self.clock.time() * 1e9),
            ttl=DAY,
            received=metrics.artifact_bytes(self.metrics),
            ended=metrics.uploads_total(self.metrics),
        )

    async def start(self, data: bytes = DATA) -> str:
        """Opens an upload of `data` and returns its id."""
        return (await self.uploads.start(digest(data), len(data))).name.removeprefix("uploads/")

    def ended(self, result: str) -> float:
        """Returns how many streams ended so."""
        return self.metrics.get_sample_value("infermesh_uploads_total", {"result": result}) or 0.0


@pytest.fixture
def desk(threads: Threads) -> Desk:
    """Uploads over fakes, in virtual time."""
    return Desk(threads)


async def stream(*pieces: tuple[int, bytes]) -> AsyncIterator[UploadArtifactRequest]:
    """Sends pieces at offsets, then ends."""
    for offset, data in pieces:
        yield UploadArtifactRequest(offset=offset, data=data)


class Held:
    """A stream that sends its pieces and then stays open without a word."""

    def __init__(self, *pieces: tuple[int, bytes]) -> None:
        self.silent = asyncio.Event()
        self._pieces = pieces

    async def __aiter__(self) -> AsyncIterator[UploadArtifactRequest]:
        async for message in stream(*self._pieces):
            yield message
        self.silent.set()
        await asyncio.Event().wait()


async def test_a_file_arrives_in_pieces(desk: Desk) -> None:
    upload = await desk.start()
    done = await desk.uploads.receive(upload, stream((0, DATA[:4]), (4, DATA[4:])))
    assert (done.complete, done.received_bytes, done.size_bytes, done.digest) == (True, 10, 10, digest(DATA))
    assert desk.store.finished[digest(DATA)] == DATA
    assert desk.metrics.get_sample_value("infermesh_artifact_bytes_total", {"direction": "in"}) == 10
    assert desk.ended("complete") == 1
    assert (await desk.uploads.state(upload)).complete


async def test_a_file_that_is_there_is_complete_at_once(desk: Desk) -> None:
    desk.store.finished[digest(DATA)] = DATA
    found = await desk.uploads.start(digest(DATA), 10)
    assert (found.complete, found.received_bytes) == (True, 10)
    with pytest.raises(InvalidInput, match="has 10 bytes, got 11"):
        await desk.uploads.start(digest(DATA), 11)


async def test_an_empty_file_needs_no_bytes(desk: Desk) -> None:
    assert (await desk.uploads.start(digest(b""), 0)).complete
    with pytest.raises(InvalidInput) as caught:
        await desk.uploads.start(digest(DATA), 0)
    assert caught.value.reason == "DIGEST_MISMATCH"


async def test_a_stream_that_ends_early_is_taken_up_by_its_caller(desk: Desk) -> None:
    upload = await desk.start()
    cut = await desk.uploads.receive(upload, stream((0, DATA[:3])))
    assert (cut.complete, cut.received_bytes) == (False, 3)
    assert desk.ended("partial") == 1
    assert (await desk.uploads.receive(upload, stream((3, DATA[3:])))).complete


async def test_a_caller_who_forgot_the_upload_is_given_it_again(desk: Desk) -> None:
    upload = await desk.start()
    await desk.uploads.receive(upload, stream((0, DATA[:3])))
    again = await desk.uploads.start(digest(DATA), 10)
    assert (again.name, again.received_bytes) == (f"uploads/{upload}", 3)
    other_size = await desk.uploads.start(digest(DATA), 11)
    assert (other_size.name != again.name, other_size.received_bytes) == (True, 0)


async def test_callers_who_start_together_do_not_share(desk: Desk) -> None:
    one, other = await desk.start(), await desk.start()
    assert one != other
    await desk.uploads.receive(one, stream((0, DATA[:3])))
    assert (await desk.uploads.receive(other, stream((0, DATA)))).complete
    late = await desk.uploads.receive(one, stream((3, b"!!!")))
    assert late.complete  # the file is there: nothing more is wanted
    assert desk.store.finished[digest(DATA)] == DATA


async def test_an_upload_that_is_being_written_is_not_handed_out(desk: Desk) -> None:
    upload, held = await desk.start(), Held((0, DATA[:3]))
    task = asyncio.create_task(desk.uploads.receive(upload, aiter(held)))
    await held.silent.wait()
    assert await desk.start() != upload
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@pytest.mark.parametrize("offset", [0, 2, 4])
async def test_bytes_that_do_not_begin_where_the_upload_stands_are_refused(desk: Desk, offset: int) -> None:
    upload = await desk.start()
    await desk.uploads.receive(upload, stream((0, DATA[:3])))
    with pytest.raises(OutOfRange) as caught:
        await desk.uploads.receive(upload, stream((offset, DATA[offset:])))
    assert caught.value.metadata["received_bytes"] == "3"
    assert (await desk.uploads.state(upload)).received_bytes == 3
    assert desk.ended("failed") == 1


async def test_bytes_beyond_the_size_are_refused(desk: Desk) -> None:
    upload = await desk.start()
    with pytest.raises(OutOfRange, match="has 10 bytes, got 11"):
        await desk.uploads.receive(upload, stream((0, DATA + b"!")))


async def test_a_message_for_another_upload_is_refused(desk: Desk) -> None:
    upload = await desk.start()

    async def mixed() -> AsyncIterator[UploadArtifactRequest]:
        yield UploadArtifactRequest(name=f"uploads/{upload}", data=DATA[:3])
        yield UploadArtifactRequest(name="uploads/other", offset=3, data=DATA[3:])

    with pytest.raises(InvalidInput, match="uploads/other"):
        await desk.uploads.receive(upload, mixed())


async def test_wrong_bytes_are_thrown_away_and_the_upload_begins_again(desk: Desk) -> None:
    upload = await desk.start()
    with pytest.raises(InvalidInput) as caught:
        await desk.uploads.receive(upload, stream((0, b"9876543210")))
    assert caught.value.metadata == {"expected": digest(DATA), "got": digest(b"9876543210")}
    assert desk.ended("mismatch") == 1
    assert (await desk.uploads.state(upload)).received_bytes == 0
    assert (await desk.uploads.receive(upload, stream((0, DATA)))).complete


async def test_a_newer_stream_takes_over_from_a_silent_one(desk: Desk) -> None:
    upload, held = await desk.start(), Held((0, DATA[:3]))
    older = asyncio.create_task(desk.uploads.receive(upload, aiter(held)))
    await held.silent.wait()
    assert (await desk.uploads.receive(upload, stream((3, DATA[3:])))).complete
    with pytest.raises(Conflict, match="newer stream"):
        await older


async def test_a_caller_who_goes_away_leaves_the_upload_usable(desk: Desk) -> None:
    upload, held = await desk.start(), Held((0, DATA[:3]))
    gone = asyncio.create_task(desk.uploads.receive(upload, aiter(held)))
    await held.silent.wait()
    gone.cancel()
    with pytest.raises(asyncio.CancelledError):
        await gone
    assert (await desk.uploads.state(upload)).received_bytes == 3
    assert (await desk.uploads.receive(upload, stream((3, DATA[3:])))).complete


async def test_an_unknown_upload_is_not_found(desk: Desk) -> None:
    for call in (desk.uploads.state("no"), desk.uploads.receive("no", stream((0, DATA)))):
        with pytest.raises(NotFound):
            await call


async def test_what_nobody_goes_on_with_is_swept(desk: Desk) -> None:
    old = await desk.start()
    await desk.uploads.receive(old, stream((0, DATA[:3])))
    await desk.clock.advance(DAY / 2)
    young = await desk.start(b"other")
    held = Held((0, b"ot"))
    busy = asyncio.create_task(desk.uploads.receive(young, aiter(held)))
    await held.silent.wait()
    await desk.clock.advance(DAY / 2 + 1)
    assert await desk.uploads.sweep() == 1
    with pytest.raises(NotFound):
        await desk.uploads.state(old)
    assert desk.store.partial.keys() == {young}
    await desk.clock.advance(10 * DAY)
    assert await desk.uploads.sweep() == 0  # somebody writes to it
    busy.cancel()
    with pytest.raises(asyncio.CancelledError):
        await busy


async def test_an_expired_upload_is_not_handed_out(desk: Desk) -> None:
    upload = await desk.start()
    await desk.uploads.receive(upload, stream((0, DATA[:3])))
    await desk.clock.advance(DAY + 1)
    assert await desk.start() != upload


async def test_the_sweeper_survives_a_failure(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    upload = await desk.start()
    failures = iter([OSError("disk"), None])
    discard, swept = desk.store.discard, asyncio.Event()

    def failing(name: str) -> None:
        failure = next(failures)
        if failure:
            raise failure
        discard(name)
        swept.set()

    monkeypatch.setattr(desk.store, "discard", failing)
    loop = asyncio.get_running_loop()
    notify = swept.set
    monkeypatch.setattr(swept, "set", lambda: loop.call_soon_threadsafe(notify))
    sweeper = asyncio.create_task(desk.uploads.sweep_forever(desk.clock, 60.0))
    while not swept.is_set():
        await desk.clock.advance(DAY)
    sweeper.cancel()
    with pytest.raises(asyncio.CancelledError):
        await sweeper
    assert desk.records.expired(2**62) == [] or upload not in desk.store.partial


@settings(max_examples=40, deadline=None)
@given(data=st.binary(max_size=200), cuts=st.lists(st.integers(0, 200), max_size=6), step=st.integers(1, 50))
def test_any_cuts_give_the_same_file(data: bytes, cuts: Sequence[int], step: int) -> None:
    async def push() -> None:
        threads = Threads(1, "test")
        desk = Desk(threads)
        upload = await desk.uploads.start(digest(data), len(data))
        for cut in (*cuts, len(data)):
            if upload.complete:
                break
            start, end = upload.received_bytes, max(upload.received_bytes, min(cut, len(data)))
            pieces = [(at, data[at : min(at + step, end)]) for at in range(start, end, step)] or [(start, b"")]
            upload = await desk.uploads.receive(upload.name.removeprefix("uploads/"), stream(*pieces))
            assert upload.received_bytes == end
        assert upload.complete
        assert desk.store.finished[digest(data)] == data
        threads.close()

    asyncio.run(push())
