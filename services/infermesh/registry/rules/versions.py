"""What a model version may look like: files, options and limits. Tensors are checked in `signatures`."""

from collections.abc import Iterable

from infermesh import names
from infermesh.errors import InvalidInput
from infermesh.registry.rules.fields import bad, check_count, check_device, check_labels, check_range
from infermesh.registry.rules.signatures import check_samples, check_signature
from infermesh.v1.model_pb2 import ModelFile, ModelVersion

_FILES_MAX = 10_000
_PATH_MAX = 1024
_PART_MAX = 255
_OPTIONS_MAX = 64
_OPTION_MAX = 4096
_INT32_MAX = 2**31 - 1
_INT64_MAX = 2**63 - 1


def check_version(version: ModelVersion) -> None:
    """Raises InvalidInput (or BadTensor, for a sample) naming the first field that is not as model.proto says."""
    names.check_id("backend", version.backend)
    check_files(version.files)
    check_range("version.max_batch_size", version.max_batch_size, 0, _INT32_MAX)
    check_range("version.memory_bytes", version.memory_bytes, 0, _INT64_MAX)
    check_device("version.device", version.device)
    check_labels("version.labels", version.labels)
    _check_options(version)
    check_signature(version.signature, version.max_batch_size)
    check_samples(version)


def check_files(files: Iterable[ModelFile]) -> None:
    """Raises InvalidInput unless there is a file and all have a safe path of their own, a digest and a size."""
    paths: set[str] = set()
    for index, file in enumerate(files):
        field = f"version.files[{index}]"
        check_path(f"{field}.path", file.path)
        if file.path in paths:
            raise bad(f"{field}.path", "no path twice", file.path)
        paths.add(file.path)
        try:
            names.check_digest(file.digest)
        except InvalidInput as error:
            raise bad(f"{field}.digest", "'sha256:' and 64 lower-case hexadecimal digits", file.digest) from error
        check_range(f"{field}.size_bytes", file.size_bytes, 0, _INT64_MAX)
    check_count("version.files", len(paths), 1, _FILES_MAX)
    folders = {folder for path in paths for folder in _folders(path)}
    if both := sorted(paths & folders):
        raise bad("version.files", "no path that is a file and a folder", both[0])


def check_path(field: str, path: str) -> None:
    """Raises InvalidInput unless `path` stays inside the folder that it is relative to, on every operating system."""
    parts = path.split("/")
    if not path or len(path) > _PATH_MAX:
        raise bad(field, f"a path of 1 to {_PATH_MAX} characters", path)
    if "\\" in path or not path.isprintable() or path[1:2] == ":":
        raise bad(field, "a relative path with '/' between its parts and no control characters", path)
    if any(part in ("", ".", "..") for part in parts):
        raise bad(field, "a relative path without empty, '.' or '..' parts", path)
    if any(len(part.encode()) > _PART_MAX for part in parts):
        raise bad(field, f"parts of at most {_PART_MAX} bytes", path)


def _folders(path: str) -> Iterable[str]:
    parts = path.split("/")
    return ("/".join(parts[:end]) for end in range(1, len(parts)))


def _check_options(version: ModelVersion) -> None:
    options = version.options
    check_count("version.options", len(options), 0, _OPTIONS_MAX)
    for key, value in options.items():
        if not 1 <= len(key) <= 128 or len(value) > _OPTION_MAX:
            raise bad(f"version.options[{key[:128]}]", f"a key of 1 to 128 and a value of up to {_OPTION_MAX}", value)
    if entry := options.get("entry"):
        paths = {file.path for file in version.files}
        if entry not in paths | {folder for path in paths for folder in _folders(path)}:
            raise bad("version.options[entry]", "one of the version's files or folders", entry)
