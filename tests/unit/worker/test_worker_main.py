"""What the composition root decides: names, addresses, threads."""

import asyncio
import os

import pytest

from infermesh.errors import ConfigError
from infermesh.mesh.config import load
from infermesh.names import check_id
from infermesh.testing.clock import FakeClock
from infermesh.v1 import model_pb2
from infermesh.worker import main
from infermesh.worker.config import WorkerConfig
from infermesh.worker.device import DeviceInfo
from infermesh.worker.device_watch import DeviceWatch


def test_a_worker_without_a_name_makes_a_good_one() -> None:
    assert check_id("worker", main._id(WorkerConfig()))
    assert main._id(WorkerConfig(id="mine")) == "mine"
    with pytest.raises(ConfigError, match="id"):
        main._id(WorkerConfig(id="Not Good"))


def test_python_is_offered_only_where_it_is_allowed() -> None:
    assert "python" not in main._identity(WorkerConfig(), "w", "1.2.3.4:5", "1.2.3.4:6").backends
    assert "python" in main._identity(WorkerConfig(allow_python=True), "w", "1.2.3.4:5", "1.2.3.4:6").backends


@pytest.mark.parametrize(
    ("listen", "shown"),
    [("127.0.0.1:5", "127.0.0.1:5"), ("0.0.0.0:5", "127.0.0.1:5"), ("[::]:5", "127.0.0.1:5")],
)
def test_a_wildcard_is_not_an_address(listen: str, shown: str) -> None:
    found = main._identity(WorkerConfig(scheduler="127.0.0.1:9"), "w", listen, listen)
    assert (found.address, found.bundle_address) == (shown, shown)
    found = main._identity(WorkerConfig(advertise="pod:7", bundle_advertise="pod:8"), "w", listen, listen)
    assert (found.address, found.bundle_address) == ("pod:7", "pod:8")


def test_an_address_that_can_not_be_found_out_must_be_said() -> None:
    with pytest.raises(ConfigError, match="--advertise"):
        main._identity(WorkerConfig(scheduler="no.such.host.invalid:9"), "w", "0.0.0.0:5", "1.2.3.4:6")
    with pytest.raises(ConfigError, match="--bundle-advertise"):
        main._identity(WorkerConfig(scheduler="no.such.host.invalid:9"), "w", "1.2.3.4:6", "0.0.0.0:5")


def test_small_models_get_one_thread_and_large_ones_share_the_cores() -> None:
    small, large = model_pb2.ModelVersion(), model_pb2.ModelVersion()
    small.files.add(size_bytes=1000)
    large.files.add(size_bytes=1 << 30)
    cores = len(os.sched_getaffinity(0))
    assert main._threads(small, 1) == 1
    assert main._threads(large, 1) == cores
    assert main._threads(large, 10 * cores) == 1


@pytest.mark.parametrize(
    ("flags", "key"),
    [
        (["--device", "gpu"], "device"),
        (["--cache-limit", "-1"], "cache_limit"),
        (["--memory-limit", "lots"], "memory_limit"),
        (["--loads", "0"], "loads"),
        (["--weight", "0"], "weight"),
        (["--drain-timeout", "-1"], "drain.timeout"),
    ],
)
def test_a_bad_setting_is_named(flags: list[str], key: str) -> None:
    with pytest.raises(ConfigError, match=key):
        load(WorkerConfig, flags, {}, room="worker")


async def test_the_device_is_looked_at_again_but_seldom_where_that_takes_long() -> None:
    clock, looks = FakeClock(), 0

    def look() -> DeviceInfo:
        nonlocal looks
        looks += 1
        return DeviceInfo("cpu", 0, "", 1000, looks)

    watch = DeviceWatch(DeviceInfo("cpu", 0, "", 1000, 0), look, clock)
    task = asyncio.create_task(watch.run())
    await clock.settle()
    assert watch.info.memory_free == 0
    await clock.advance(5)
    async with asyncio.timeout(5):
        while watch.info.memory_free == 0:  # noqa: ASYNC110 - it looks in a thread
            await asyncio.sleep(0.001)
    task.cancel()
    await asyncio.wait({task})


async def test_a_device_that_can_not_be_asked_any_more_is_as_it_was_and_is_asked_again() -> None:
    clock, looks = FakeClock(), 0

    def look() -> DeviceInfo:
        nonlocal looks
        looks += 1
        if looks < 3:
            raise ConfigError("device: 'cuda' is not there")
        return DeviceInfo("cuda", 0, "", 1000, 7)

    watch = DeviceWatch(DeviceInfo("cuda", 0, "", 1000, 5), look, clock)
    task = asyncio.create_task(watch.run())
    for done in (1, 2, 3):
        await clock.settle()
        assert (looks, watch.info.memory_free) == (done - 1, 5)
        await clock.advance(5)
        async with asyncio.timeout(5):
            while looks < done:  # noqa: ASYNC110 - it looks in a thread
                await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
    assert watch.info.memory_free == 7
    assert not task.done()
    task.cancel()
    await asyncio.wait({task})
