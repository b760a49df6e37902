"""Signatures of versions: written by hand, or taken from samples. Part of the public SDK."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import numpy.typing as npt

from infermesh import datatypes, tensors
from infermesh.errors import BadTensor, InvalidInput
from infermesh.tensors import Array
from infermesh.v1 import model_pb2, tensor_pb2

Specs = Mapping[str, tuple[str, Sequence[int]]]
Arrays = Mapping[str, npt.ArrayLike]


def signature(inputs: Specs, outputs: Specs) -> model_pb2.Signature:
    """Returns a signature of {name: (datatype, shape)}, e.g. `{"image": ("FP32", [-1, 1, 8, 8])}`.

    Datatypes are those of the Open Inference Protocol; -1 stands for any size, and for the batch in front where the
    version batches. Raises InvalidInput.
    """
    return model_pb2.Signature(inputs=_specs(inputs), outputs=_specs(outputs))


def from_samples(samples: Iterable[tuple[Arrays, Arrays]], *, batched: bool) -> model_pb2.Signature:
    """Returns the signature that all samples fit. With `batched` the first dimension is the batch (-1).

    A dimension in which samples differ becomes -1. Raises InvalidInput without samples, or if they contradict.
    """
    pairs = list(samples)
    if not pairs:
        raise InvalidInput("signature: can't be inferred without samples")
    inputs = _common([sample[0] for sample in pairs], batched)
    return model_pb2.Signature(inputs=inputs, outputs=_common([sample[1] for sample in pairs], batched))


def sample_of(
    signature: model_pb2.Signature, inputs: Arrays, outputs: Arrays, *, atol: float = 0.0, rtol: float = 0.0
) -> model_pb2.Sample:
    """Returns the golden sample of one pair. Raises BadTensor for a tensor that the signature doesn't have or fit."""
    missing = sorted({spec.name for spec in signature.inputs} - set(inputs))
    if missing:
        raise BadTensor.of(missing[0], "a sample value for every input", "none")
    return model_pb2.Sample(
        inputs=[_tensor(signature.inputs, name, value) for name, value in inputs.items()],
        outputs=[_tensor(signature.outputs, name, value) for name, value in outputs.items()],
        atol=atol,
        rtol=rtol,
    )


def _specs(specs: Specs) -> list[tensor_pb2.TensorSpec]:
    if not specs:
        raise InvalidInput("signature: expected at least one tensor, got none")
    for name, (_, shape) in specs.items():
        if any(size < -1 or size == 0 for size in shape):
            raise InvalidInput(f"signature: tensor '{name}': expected sizes above 0 or -1, got {list(shape)}")
    return [
        tensor_pb2.TensorSpec(name=name, datatype=datatypes.check_datatype(datatype), shape=shape)
        for name, (datatype, shape) in specs.items()
    ]


def _common(sides: Sequence[Arrays], batched: bool) -> list[tensor_pb2.TensorSpec]:
    names = list(sides[0])
    if any(set(side) != set(names) for side in sides):
        raise InvalidInput("signature: the samples do not all have the same tensors")
    return [_common_spec(name, [np.asarray(side[name]) for side in sides], batched) for name in names]


def _common_spec(name: str, arrays: Sequence[Array], batched: bool) -> tensor_pb2.TensorSpec:
    datatypes = {tensors.datatype_of(array) for array in arrays}
    if len(datatypes) > 1 or len({array.ndim for array in arrays}) > 1:
        raise InvalidInput(f"signature: the samples disagree about datatype or rank of tensor '{name}'")
    if batched and not arrays[0].ndim:
        raise BadTensor.of(name, "the batch as first dimension", "a scalar")
    sizes = zip(*(array.shape for array in arrays), strict=True)
    shape = [-1 if len(set(size)) > 1 else size[0] for size in sizes]
    if batched:
        shape[0] = -1
    return tensor_pb2.TensorSpec(name=name, datatype=datatypes.pop(), shape=shape)


def _tensor(specs: Iterable[tensor_pb2.TensorSpec], name: str, value: npt.ArrayLike) -> tensor_pb2.Tensor:
    array = np.asarray(value)
    spec = next((spec for spec in specs if spec.name == name), None)
    if spec is None:
        raise BadTensor.of(name, f"one of {', '.join(spec.name for spec in specs)}", "an unknown name")
    datatype = tensors.datatype_of(array)
    fits = len(array.shape) == len(spec.shape) and all(
        wanted in (-1, got) for wanted, got in zip(spec.shape, array.shape, strict=True)
    )
    if datatype != spec.datatype or not fits:
        raise BadTensor.of(name, f"{spec.datatype}{list(spec.shape)}", f"{datatype}{list(array.shape)}")
    return tensor_pb2.Tensor(name=name, datatype=datatype, shape=array.shape, data=tensors.encode(array))
