"""The device of a worker: which there is, its name and memory. Used by the worker room.

torch is never imported here: it would cost the worker 200 MB and, with CUDA, a context that no runner uses. Where an
accelerator may be present, a process of its own (`device_probe.py`) asks torch and ends.
"""

import json
import platform
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import psutil

from infermesh.errors import ConfigError

_PROBE_SECONDS: Final = 60.0
_KINDS: Final = ("cuda", "mps", "xpu")


@dataclass(frozen=True, slots=True)
class DeviceInfo:
    """A device that models can run on."""

    kind: str
    """`cpu`, `cuda`, `mps` or `xpu`."""
    index: int
    name: str
    memory_total: int
    """Bytes that models may use."""
    memory_free: int
    """Bytes that are free now."""

    @property
    def torch_name(self) -> str:
        """The name that runners take: `cpu`, `cuda:0`, `mps`, `xpu`."""
        return f"{self.kind}:{self.index}" if self.kind == "cuda" else self.kind


Probe = Callable[[], Sequence[DeviceInfo]]


def detect(requested: str) -> DeviceInfo:
    """Returns the device for `auto`, `cpu`, `cuda`, `cuda:N`, `mps` or `xpu`, with its memory as it is now.

    Blocking (up to seconds where an accelerator has to be asked). Raises ConfigError naming what there is.
    """
    return choose(requested, ask_torch, may_have_accelerator(Path("/")), cpu(Path("/")))


def refreshed(device: DeviceInfo) -> DeviceInfo:
    """Returns the device with its memory as it is now; quick, so of an accelerator it returns what was detected."""
    return replace(cpu(Path("/")), name=device.name) if device.kind == "cpu" else device


def choose(requested: str, probe: Probe, may_have: bool, host: DeviceInfo) -> DeviceInfo:
    """Returns the device that was asked for; `probe` is called only if it can matter. Raises ConfigError."""
    kind, _, index = requested.partition(":")
    if requested == "cpu" or (requested == "auto" and not may_have):
        return host
    if kind not in ("auto", *_KINDS) or (index and (kind != "cuda" or not index.isdecimal())):
        raise ConfigError(f"device: expected auto, cpu, cuda:N, mps or xpu, got {requested!r}")
    found = list(probe())
    if requested == "auto":
        return next((device for device in found if device.kind in _KINDS), host)
    for device in found:
        if device.kind == kind and device.index == int(index or 0):
            return device
    have = ", ".join(f"{device.torch_name} ({device.name})" for device in [*found, host])
    raise ConfigError(f"device: {requested!r} is not there; this machine has {have}")


def may_have_accelerator(root: Path) -> bool:
    """Tells whether it is worth asking torch: an NVIDIA or Intel GPU with its driver, or a Mac of Apple's own chips."""
    nvidia = any((root / "dev").glob("nvidia[0-9]*")) or (root / "dev/dxg").exists()
    return (
        nvidia or any((root / "dev/dri").glob("renderD*")) or (sys.platform, platform.machine()) == ("darwin", "arm64")
    )


def ask_torch() -> list[DeviceInfo]:
    """Returns the accelerators that torch can use. Blocking: starts a process. Raises ConfigError if that fails."""
    command = [sys.executable, "-P", "-m", "infermesh.worker.device_probe"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=_PROBE_SECONDS, check=True)
        found: list[dict[str, Any]] = json.loads(done.stdout)
    except (OSError, subprocess.SubprocessError, ValueError) as error:
        lines = str(getattr(error, "stderr", None) or error).strip().splitlines()
        raise ConfigError(f"device: torch could not be asked what there is: {lines[-1] if lines else error}") from error
    return [DeviceInfo(**device) for device in found]


def cpu(root: Path) -> DeviceInfo:
    """Returns the CPU with the memory of this machine, or of our control group where that is less."""
    memory = psutil.virtual_memory()
    limit, used = _group(root)
    total = memory.total if limit is None else min(memory.total, limit)
    free = memory.available if limit is None else min(memory.available, max(0, limit - used))
    return DeviceInfo("cpu", 0, _cpu_name(root), total, free)


def _group(root: Path) -> tuple[int | None, int]:
    """Returns limit and use of the control group's memory (cgroup v2, then v1); None if there is no limit."""
    base = root / "sys/fs/cgroup"
    own = next((line[3:].strip("/") for line in _text(root / "proc/self/cgroup").splitlines() if line[:3] == "0::"), "")
    for folder, limit, use in (
        (base / own, "memory.max", "memory.current"),
        (base, "memory.max", "memory.current"),
        (base / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes"),
    ):
        allowed = _text(folder / limit).strip()
        if allowed.isdecimal() and int(allowed) < 1 << 60:  # v1 writes a huge number for "no limit"
            return int(allowed), _in_use(folder, use)
    return None, 0


def _in_use(folder: Path, name: str) -> int:
    """Returns the bytes in use, without file pages that the kernel would drop."""
    used = _text(folder / name).strip()
    stat = dict(line.split()[:2] for line in _text(folder / "memory.stat").splitlines() if len(line.split()) >= 2)
    droppable = int(stat.get("inactive_file", stat.get("total_inactive_file", 0)))
    return max(0, int(used) - droppable) if used.isdecimal() else 0


def _cpu_name(root: Path) -> str:
    for line in _text(root / "proc/cpuinfo").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return platform.processor() or platform.machine()


def _text(path: Path) -> str:
    try:
        return path.read_text()
    except OSError:
        return ""
