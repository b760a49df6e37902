"""The seam behind which models run. Implementations live beside this file; used inside runner processes only."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from infermesh.errors import LoadFailed, MeshError
from infermesh.tensors import Array
from infermesh.v1 import model_pb2, tensor_pb2


@dataclass(frozen=True, slots=True)
class LoadContext:
    """What a backend is to load, and where to."""

    version: model_pb2.ModelVersion
    folder: Path
    device: str
    """`cpu`, `cuda:0`, `mps` or `xpu`."""
    threads: int
    allow_python: bool
    probe: Mapping[str, Array]
    """Plausible inputs, as `infer` will get them: a golden sample, else zeros."""


class Backend(Protocol):
    """Runs one version. Called from one thread, in the order load, then anything, then close.

    Arrays are C-contiguous and have the numpy types of `tensors.numpy_dtype`: BYTES as objects (bytes), BF16 as its
    raw bits in uint16. Constructors take no arguments and do nothing.
    """

    def load(self, context: LoadContext) -> None:
        """Loads the version. Blocking. Raises LoadFailed saying which file or tensor is wrong."""

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """Returns at least the outputs that are named. Blocking; changes no state that a later call could see.

        The inputs are the backend's to change, and valid only during the call. Raises InvalidInput if the model
        refuses these inputs, RunnerBroken if nothing can run here any more; anything else counts as the model's fault.
        """

    def use_threads(self, threads: int) -> None:
        """Makes later calls use that many threads where the backend can choose."""

    def memory_bytes(self) -> int | None:
        """Returns the memory taken on an accelerator; None if the model lives in the memory of the process."""

    def close(self) -> None:
        """Gives everything back."""


class RunnerBroken(MeshError):
    """The device or process is in a state in which nothing can run: the runner has to end."""

    reason = "RUNNER_BROKEN"


def entry_file(context: LoadContext, suffixes: Sequence[str]) -> Path:
    """Returns the file to load: option `entry`, else the only file with one of the suffixes. Raises LoadFailed."""
    name = context.version.options.get("entry", "")
    paths = [file.path for file in context.version.files] or _listed(context.folder)
    found = [name] if name else [path for path in paths if Path(path).suffix in suffixes]
    if len(found) != 1:
        wanted = f"exactly one file ending in {' or '.join(suffixes)}, or option 'entry'"
        raise LoadFailed(f"entry file: expected {wanted}, got {', '.join(sorted(found or paths)) or 'no files'}")
    path = (context.folder / found[0]).resolve()
    if not path.is_relative_to(context.folder.resolve()):
        raise LoadFailed(f"entry file {found[0]!r}: expected a path inside the version's folder")
    if path.suffix not in suffixes:
        raise LoadFailed(f"entry file {found[0]!r}: expected a name ending in {' or '.join(suffixes)}")
    if not path.is_file():
        raise LoadFailed(f"entry file {found[0]!r}: not among the version's files")
    return path


def _listed(folder: Path) -> list[str]:
    return [str(path.relative_to(folder)) for path in sorted(folder.rglob("*")) if path.is_file()]


def match_names(kind: str, wanted: Sequence[str], offered: Sequence[str]) -> None:
    """Raises LoadFailed unless the signature's names (`wanted`) and the model's (`offered`) are the same."""
    if sorted(wanted) != sorted(offered):
        raise LoadFailed(f"{kind}s: the signature names {_names(wanted)}, the model has {_names(offered)}")


def _names(names: Sequence[str]) -> str:
    return ", ".join(repr(name) for name in names) or "none"


def check_tensor(
    kind: str, spec: tensor_pb2.TensorSpec, datatype: str, dims: Sequence[int | None], max_batch_size: int
) -> None:
    """Raises LoadFailed unless a tensor of the model can be what the signature says; None stands for any size."""
    wanted, got = f"{spec.datatype}{list(spec.shape)}", f"{datatype}{[-1 if dim is None else dim for dim in dims]}"
    rank_agrees = len(dims) == len(spec.shape)
    sizes_agree = all(dim is None or size in (-1, dim) for dim, size in zip(dims, spec.shape, strict=False))
    if datatype != spec.datatype or not rank_agrees or not sizes_agree:
        raise LoadFailed(f"{kind} {spec.name!r}: the signature says {wanted}, the model has {got}")
    if max_batch_size > 1 and dims and dims[0] is not None:
        raise LoadFailed(
            f"{kind} {spec.name!r}: the model takes exactly {dims[0]} rows, max_batch_size is {max_batch_size}: "
            "export it with a dynamic batch dimension, or push it with a max_batch_size of 0"
        )
