"""Which device a worker takes, and how much memory it has."""

import sys
from collections.abc import Sequence
from pathlib import Path

import psutil
import pytest

from infermesh.errors import ConfigError
from infermesh.worker import device
from infermesh.worker.device import DeviceInfo

HOST = DeviceInfo("cpu", 0, "a processor", 8 << 30, 4 << 30)
GPUS = [DeviceInfo("cuda", at, "H200", 139 << 30, 100 << 30) for at in range(2)]


def choose(requested: str, found: Sequence[DeviceInfo], *, may_have: bool = True) -> DeviceInfo:
    return device.choose(requested, lambda: found, may_have, HOST)


@pytest.mark.parametrize(
    ("requested", "chosen"), [("auto", GPUS[0]), ("cuda", GPUS[0]), ("cuda:1", GPUS[1]), ("cpu", HOST)]
)
def test_the_device_that_is_asked_for(requested: str, chosen: DeviceInfo) -> None:
    assert choose(requested, GPUS) == chosen


def test_auto_is_the_cpu_where_there_is_nothing_else() -> None:
    assert choose("auto", []) == HOST


@pytest.mark.parametrize("requested", ["auto", "cpu"])
def test_torch_is_not_asked_in_vain(requested: str) -> None:
    def ask() -> Sequence[DeviceInfo]:
        raise AssertionError("asked")

    assert device.choose(requested, ask, False, HOST) == HOST


@pytest.mark.parametrize("requested", ["cuda:2", "mps", "xpu"])
def test_a_device_that_is_missing_is_a_setting_that_is_wrong(requested: str) -> None:
    with pytest.raises(ConfigError, match=rf"'{requested}' is not there.*cuda:0 \(H200\), cuda:1 \(H200\), cpu"):
        choose(requested, GPUS)


@pytest.mark.parametrize("requested", ["gpu", "", "cuda:x", "cuda:-1", "mps:1", "cpu:0"])
def test_other_words_are_refused(requested: str) -> None:
    with pytest.raises(ConfigError, match="expected auto, cpu, cuda:N, mps or xpu"):
        choose(requested, GPUS)


def test_names_for_runners() -> None:
    assert [HOST.torch_name, GPUS[1].torch_name, DeviceInfo("mps", 0, "", 0, 0).torch_name] == ["cpu", "cuda:1", "mps"]


def put(root: Path, path: str, text: str) -> None:
    (root / path).parent.mkdir(parents=True, exist_ok=True)
    (root / path).write_text(text)


def test_without_a_control_group_memory_is_the_machines(tmp_path: Path) -> None:
    assert device.cpu(tmp_path).memory_total == psutil.virtual_memory().total


def test_a_control_group_limits_memory(tmp_path: Path) -> None:
    put(tmp_path, "proc/self/cgroup", "0::/kubepods/pod1\n")
    put(tmp_path, "sys/fs/cgroup/kubepods/pod1/memory.max", "1000000\n")
    put(tmp_path, "sys/fs/cgroup/kubepods/pod1/memory.current", "700000\n")
    put(tmp_path, "sys/fs/cgroup/kubepods/pod1/memory.stat", "anon 1\ninactive_file 200000\n")
    info = device.cpu(tmp_path)
    assert (info.memory_total, info.memory_free) == (1_000_000, 500_000)


@pytest.mark.parametrize("folder", ["sys/fs/cgroup", "sys/fs/cgroup/memory"])
def test_the_group_may_be_mounted_as_the_root_or_of_the_first_kind(tmp_path: Path, folder: str) -> None:
    names = (
        ("memory.limit_in_bytes", "memory.usage_in_bytes") if "memory" in folder else ("memory.max", "memory.current")
    )
    put(tmp_path, f"{folder}/{names[0]}", "1000\n")
    put(tmp_path, f"{folder}/{names[1]}", "1500\n")
    info = device.cpu(tmp_path)
    assert (info.memory_total, info.memory_free) == (1000, 0)


@pytest.mark.parametrize("text", ["max\n", "9223372036854771712\n"])
def test_no_limit_is_no_limit(tmp_path: Path, text: str) -> None:
    put(tmp_path, "sys/fs/cgroup/memory.max", text)
    assert device.cpu(tmp_path).memory_total == psutil.virtual_memory().total


def test_the_processor_is_named(tmp_path: Path) -> None:
    put(tmp_path, "proc/cpuinfo", "processor: 0\nmodel name\t: Fast One\n")
    assert device.cpu(tmp_path).name == "Fast One"


def test_accelerators_show_in_the_device_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "platform", "linux")
    assert not device.may_have_accelerator(tmp_path)
    put(tmp_path, "dev/nvidia0", "")
    assert device.may_have_accelerator(tmp_path)


def test_memory_is_refreshed_only_where_that_is_quick() -> None:
    assert device.refreshed(GPUS[0]) is GPUS[0]
    assert device.refreshed(HOST).name == HOST.name
    assert device.refreshed(HOST).memory_total != HOST.memory_total
