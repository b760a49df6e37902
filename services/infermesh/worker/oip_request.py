"""Reads what a request says beside its tensors: parameters and wanted outputs. Used by `oip_codec`.

The meaning of the keys is Triton's; what we do not do is refused, never ignored.
"""

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from infermesh.errors import InvalidInput, Unsupported
from infermesh.oip.v2 import grpc_service_pb2 as oip


@dataclass(frozen=True, slots=True)
class Wanted:
    """An output that the caller asked for; `classes` > 0 asks for the top classes instead of the values."""

    name: str
    classes: int = 0


@dataclass(frozen=True, slots=True)
class Wishes:
    """What the parameters of a request ask for. `timeout` is in seconds; a higher `priority` goes first."""

    timeout: float | None = None
    priority: int = 0


NO_WISHES = Wishes()


def read_parameters(parameters: Mapping[str, oip.InferParameter]) -> Wishes:
    """Returns what the parameters of a request ask for. Raises InvalidInput or Unsupported."""
    timeout, priority = None, 0
    for key, value in parameters.items():
        if key == "timeout":
            timeout = _integer(key, value) / 1e6
        elif key == "priority":
            # level 1 is the highest and the one of calls that do not say; larger levels come later
            priority = min(0, 1 - _integer(key, value)) if _integer(key, value) else 0
        elif key == "sequence_id":
            if value.int64_param or value.uint64_param or value.string_param:
                raise Unsupported("parameter 'sequence_id': sequences are not served here")
        elif key.startswith("shared_memory_"):
            raise _shared_memory(key)
        elif key.startswith("triton_") and key != "triton_enable_empty_final_response":
            raise InvalidInput(f"parameter '{key}': expected no unknown parameter beginning with 'triton_', got it")
    return Wishes(timeout or None, priority)


def check_input_parameters(tensor: str, parameters: Mapping[str, oip.InferParameter]) -> None:
    """Raises Unsupported if an input lies in shared memory."""
    for key in parameters:
        if key.startswith("shared_memory_"):
            raise _shared_memory(key, tensor)


def read_outputs(outputs: Collection[Any], known: Collection[str]) -> tuple[Wanted, ...]:
    """Returns the wanted outputs in their order. Raises InvalidInput for one that is unknown or named twice."""
    wanted: dict[str, Wanted] = {}
    for output in outputs:
        name = output.name
        if name not in known or name in wanted:
            got = f"'{name}' twice" if name in wanted else f"'{name}'"
            raise InvalidInput(
                f"requested output: expected some of {', '.join(known)}, got {got}",
                violations=[(f"outputs.{name}", f"expected some of {', '.join(known)}")],
            )
        wanted[name] = Wanted(name, _classes(name, output.parameters))
    return tuple(wanted.values())


def _classes(output: str, parameters: Mapping[str, oip.InferParameter]) -> int:
    for key in parameters:
        if key.startswith("shared_memory_"):
            raise _shared_memory(key, output)
    if "classification" not in parameters:
        return 0
    classes = _integer("classification", parameters["classification"])
    if classes < 1:
        raise InvalidInput(f"parameter 'classification' of output '{output}': expected 1 or more, got {classes}")
    return classes


def _integer(key: str, value: oip.InferParameter) -> int:
    kind = value.WhichOneof("parameter_choice")
    number = getattr(value, kind) if kind in ("int64_param", "uint64_param") else None
    if number is None or number < 0:
        raise InvalidInput(f"parameter '{key}': expected an integer, 0 or more, got {kind or 'nothing'} {number or ''}")
    return int(number)


def _shared_memory(key: str, tensor: str = "") -> Unsupported:
    where = f" of tensor '{tensor}'" if tensor else ""
    return Unsupported(f"parameter '{key}'{where}: shared memory is not served here; send the tensor in the request")
