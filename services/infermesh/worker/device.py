"""The device of a worker: which there is, its name and memory. Used by the worker room; never imports torch here."""

from dataclasses import dataclass


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


def detect(requested: str) -> DeviceInfo:
    """Returns the device for `auto`, `cpu`, `cuda`, `cuda:N`, `mps` or `xpu`, with its memory as it is now.

    Blocking (up to seconds where an accelerator has to be asked). Raises ConfigError naming what there is.
    """
    raise NotImplementedError(requested)
