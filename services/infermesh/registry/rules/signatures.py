"""What the tensors of a version may look like: its signature and its golden samples."""

import math
from collections.abc import Iterable, Sequence

from infermesh import datatypes
from infermesh.errors import BadTensor, InvalidInput
from infermesh.registry.rules.fields import bad, check_count
from infermesh.v1.model_pb2 import ModelVersion, Sample, Signature
from infermesh.v1.tensor_pb2 import Tensor, TensorSpec

SAMPLES_MAX = 16
SAMPLE_BYTES_MAX = 8 * 2**20

_TENSORS_MAX = 1024
_NAME_MAX = 256
_RANK_MAX = 32


def check_signature(signature: Signature, max_batch_size: int) -> None:
    """Raises InvalidInput unless tensors have a unique name, a known datatype and a shape that fits the batching."""
    for side, specs in (("inputs", signature.inputs), ("outputs", signature.outputs)):
        field = f"version.signature.{side}"
        check_count(field, len(specs), 1, _TENSORS_MAX)
        seen: set[str] = set()
        for index, spec in enumerate(specs):
            _check_spec(f"{field}[{index}]", spec, max_batch_size)
            if spec.name in seen:
                raise bad(f"{field}[{index}].name", "no name twice", spec.name)
            seen.add(spec.name)


def _check_spec(field: str, spec: TensorSpec, max_batch_size: int) -> None:
    if not 1 <= len(spec.name) <= _NAME_MAX or not spec.name.isprintable():
        raise bad(f"{field}.name", f"1 to {_NAME_MAX} printable characters", spec.name)
    try:
        datatypes.check_datatype(spec.datatype)
    except InvalidInput as error:
        raise bad(f"{field}.datatype", "a datatype of the Open Inference Protocol", spec.datatype) from error
    check_count(f"{field}.shape", len(spec.shape), 0, _RANK_MAX, "dimensions")
    if any(size < -1 or size == 0 for size in spec.shape):
        raise bad(f"{field}.shape", "sizes above 0, or -1 for any size", list(spec.shape))
    if max_batch_size > 0 and list(spec.shape[:1]) != [-1]:
        raise bad(f"{field}.shape", "-1 (the batch) first, because max_batch_size is above 0", list(spec.shape))


def check_samples(version: ModelVersion) -> None:
    """Raises InvalidInput or BadTensor unless the samples are within their limits and match the signature."""
    check_count("version.samples", len(version.samples), 0, SAMPLES_MAX)
    size = sum(len(tensor.data) for sample in version.samples for tensor in (*sample.inputs, *sample.outputs))
    if size > SAMPLE_BYTES_MAX:
        raise bad("version.samples", f"at most {SAMPLE_BYTES_MAX} bytes together", size)
    for index, sample in enumerate(version.samples):
        _check_sample(f"version.samples[{index}]", sample, version)


def _check_sample(field: str, sample: Sample, version: ModelVersion) -> None:
    for name, value in (("atol", sample.atol), ("rtol", sample.rtol)):
        if not (math.isfinite(value) and value >= 0):
            raise bad(f"{field}.{name}", "a finite number, 0 or above", value)
    inputs = _matched(f"{field}.inputs", sample.inputs, version.signature.inputs)
    if missing := [spec.name for spec in version.signature.inputs if spec.name not in inputs]:
        raise BadTensor.of(missing[0], f"one tensor for every input in {field}", "none")
    if not sample.outputs:
        raise bad(f"{field}.outputs", "the value of at least one output", "none")
    _matched(f"{field}.outputs", sample.outputs, version.signature.outputs)
    if version.max_batch_size > 0:
        _check_rows(field, [*sample.inputs, *sample.outputs], version.max_batch_size)


def _matched(field: str, given: Iterable[Tensor], specs: Sequence[TensorSpec]) -> set[str]:
    wanted = {spec.name: spec for spec in specs}
    seen: set[str] = set()
    for tensor in given:
        spec = wanted.get(tensor.name)
        if spec is None:
            raise BadTensor.of(tensor.name, f"a name of the signature ({', '.join(wanted)}) in {field}", "another name")
        if tensor.name in seen:
            raise BadTensor.of(tensor.name, f"once in {field}", "twice")
        seen.add(tensor.name)
        _check_tensor(tensor, spec)
    return seen


def _check_tensor(tensor: Tensor, spec: TensorSpec) -> None:
    if tensor.datatype != spec.datatype:
        raise BadTensor.of(tensor.name, f"datatype {spec.datatype}", tensor.datatype or "none")
    shape, wanted = list(tensor.shape), list(spec.shape)
    fits = len(shape) == len(wanted) and all(w in (-1, s) for s, w in zip(shape, wanted, strict=True))
    if not fits or any(size < 0 for size in shape):
        raise BadTensor.of(tensor.name, f"shape {wanted}", f"{shape}")
    if tensor.datatype == "BYTES":
        count = len(datatypes.decode_bytes(tensor.name, tensor.data))
        datatypes.check_size(tensor.name, tensor.datatype, shape, count, "elements")
    else:
        datatypes.check_size(tensor.name, tensor.datatype, shape, len(tensor.data), "bytes")


def _check_rows(field: str, given: Sequence[Tensor], max_batch_size: int) -> None:
    rows = {tensor.shape[0] for tensor in given}
    if len(rows) != 1:
        raise bad(field, "the same number of rows in every tensor", sorted(rows))
    check_count(field, rows.pop(), 1, max_batch_size, "rows")
