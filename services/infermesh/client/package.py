"""What a version consists of, worked out from local files: backend, signature, limits, samples. Used by `catalog`."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Final

from infermesh.client.formats import Description, describe
from infermesh.client.signature import Arrays, from_samples, sample_of
from infermesh.errors import InvalidInput
from infermesh.v1 import model_pb2

BACKENDS: Final[dict[str, str]] = {
    ".pt2": "torch",
    ".pt": "torch",
    ".pts": "torch",
    ".ts": "torch",
    ".onnx": "onnx",
    ".py": "python",
}
"""Backend by the suffix of the file that is loaded."""

DEFAULT_BATCH: Final = 64
"""Most rows of a version whose tensors all begin with a free dimension, if nothing else is said."""


def list_files(files: str | Path | Mapping[str, str | Path]) -> dict[str, Path]:
    """Returns local files by their paths in the version: of one file, a folder, or as given. Raises InvalidInput."""
    if isinstance(files, Mapping):
        listed = {path: Path(source) for path, source in files.items()}
    elif Path(files).is_dir():
        folder = Path(files)
        listed = {f.relative_to(folder).as_posix(): f for f in sorted(folder.rglob("*")) if f.is_file()}
    else:
        listed = {Path(files).name: Path(files)}
    if not listed:
        raise InvalidInput(f"files: expected at least one file, got none in {files}")
    for source in listed.values():
        if not source.is_file():
            raise InvalidInput(f"file {source}: not found, or not a file")
    return listed


def draft_version(
    files: Mapping[str, Path],
    backend: str,
    signature: model_pb2.Signature | None,
    samples: Sequence[tuple[Arrays, Arrays]],
    max_batch_size: int | None,
    options: dict[str, str],
) -> model_pb2.ModelVersion:
    """Returns the version as far as the files tell, without their digests. Blocks. Raises InvalidInput or BadTensor."""
    entry = options.get("entry") or find_entry(files, backend)
    if entry not in files:
        raise InvalidInput(f"options: entry '{entry}' is not among the files: {', '.join(files)}")
    backend = backend or _backend_of(entry)
    found = Description() if signature is not None else describe(files[entry])
    signature = signature or found.signature or _from_samples(entry, samples, max_batch_size)
    if max_batch_size is None:
        max_batch_size = _batch_limit(signature, found.max_batch_size)
    return model_pb2.ModelVersion(
        backend=backend,
        signature=signature,
        samples=[sample_of(signature, inputs, outputs) for inputs, outputs in samples],
        max_batch_size=max_batch_size,
        options={**_implied_options(backend, entry, len(files)), **options},
    )


def _implied_options(backend: str, entry: str, files: int) -> dict[str, str]:
    if backend == "python":
        return {"class": f"{Path(entry).stem}:Model"}
    return {"entry": entry} if files > 1 else {}


def find_entry(files: Mapping[str, Path], backend: str) -> str:
    """Returns the path of the one file that a backend loads. Raises InvalidInput if none or several could be meant."""
    candidates = [path for path in files if BACKENDS.get(Path(path).suffix, "") == (backend or _known(path))]
    if len(files) == 1 and (backend or candidates):
        return next(iter(files))
    if len(candidates) != 1:
        raise InvalidInput(
            f"files: expected one file with a suffix of {', '.join(BACKENDS)}, got {', '.join(candidates or files)}: "
            "name the one to load with options={'entry': path}, and the backend with backend="
        )
    return candidates[0]


def _known(path: str) -> str:
    return BACKENDS.get(Path(path).suffix, "?")


def _backend_of(entry: str) -> str:
    found = BACKENDS.get(Path(entry).suffix)
    if found is None:
        raise InvalidInput(f"backend: can't be told from '{entry}': expected a suffix of {', '.join(BACKENDS)}")
    return found


def _from_samples(
    entry: str, samples: Sequence[tuple[Arrays, Arrays]], max_batch_size: int | None
) -> model_pb2.Signature:
    if not samples:
        raise InvalidInput(
            f"signature: '{entry}' does not say what tensors it takes; give signature= or at least one sample"
        )
    return from_samples(samples, batched=max_batch_size != 0)


def _batch_limit(signature: model_pb2.Signature, limit: int | None) -> int:
    specs = [*signature.inputs, *signature.outputs]
    if not all(spec.shape and spec.shape[0] == -1 for spec in specs):
        return 0
    return DEFAULT_BATCH if limit is None else min(limit, DEFAULT_BATCH)
