"""The REST form of inference: JSON with binary tensors behind it, to ModelInferRequest and back. Pure."""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from infermesh import datatypes
from infermesh.errors import BadTensor, InvalidInput
from infermesh.gateway.frontends.http import parse_json
from infermesh.gateway.frontends.oip import json_tensors
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1.model_pb2 import Signature

HEADER: Final = "inference-header-content-length"


class Wish(NamedTuple):
    """Which outputs shall be binary: those of `named`, and all others if `rest`."""

    rest: bool
    named: Mapping[str, bool]


def split(body: bytes, header: str | None) -> tuple[dict[str, Any], bytes]:
    """Returns the JSON object and the binary part of a body. Raises InvalidInput."""
    if header is None:
        return parse_json(body), b""
    if not header.isdigit() or int(header) > len(body):
        got = repr(header[:40])
        raise InvalidInput(f"{HEADER}: expected a number from 0 to the body's {len(body)} bytes, got {got}")
    end = int(header)
    return parse_json(body[:end]), body[end:]


def read(model: str, version: str, content: Mapping[str, Any], binary: bytes) -> tuple[oip.ModelInferRequest, Wish]:
    """Returns the message of a JSON request and what its outputs shall be. Raises InvalidInput or BadTensor."""
    message = oip.ModelInferRequest(model_name=model, model_version=version, id=_text(content, "id"))
    parameters = _object(content, "parameters")
    rest = bool(parameters.pop("binary_data_output", False))
    _set_parameters(message.parameters, parameters, "parameters")
    at = 0
    for item in _list(content, "inputs"):
        at = _read_input(message, item, binary, at)
    if at != len(binary):
        raise InvalidInput(f"body: expected {at} bytes of binary data by the inputs' sizes, got {len(binary)}")
    named = dict(_read_output(message, item, rest) for item in _list(content, "outputs", missing=[]))
    return message, Wish(rest, named)


def read_raw(model: str, version: str, signature: Signature, binary: bytes) -> tuple[oip.ModelInferRequest, Wish]:
    """Returns the message of a body that is nothing but the raw data of a model's one input, one row.

    Raises InvalidInput if the model has more inputs, or one whose shape does not follow from the size.
    """
    if len(signature.inputs) != 1:
        raise InvalidInput(f"raw request: expected a model with one input, it has {len(signature.inputs)}")
    spec = signature.inputs[0]
    shape = _raw_shape(spec.name, spec.datatype, list(spec.shape), binary)
    message = oip.ModelInferRequest(model_name=model, model_version=version)
    message.inputs.add(name=spec.name, datatype=spec.datatype, shape=shape)
    message.raw_input_contents.append(datatypes.encode_bytes([binary]) if spec.datatype == "BYTES" else binary)
    return message, Wish(True, {})


def write(message: oip.ModelInferResponse, wish: Wish) -> tuple[bytes, int | None]:
    """Returns the body of a response, and the length of its JSON if binary data follows it."""
    outputs, blocks = [], []
    for output, raw in zip(message.outputs, message.raw_output_contents, strict=True):
        item: dict[str, Any] = {"name": output.name, "datatype": output.datatype, "shape": list(output.shape)}
        if wish.named.get(output.name, wish.rest):
            item["parameters"] = {"binary_data_size": len(raw)}
            blocks.append(raw)
        else:
            item["data"] = json_tensors.to_json(output.name, output.datatype, list(output.shape), raw)
        outputs.append(item)
    content: dict[str, Any] = {"model_name": message.model_name, "model_version": message.model_version}
    if message.id:
        content["id"] = message.id
    if message.parameters:
        content["parameters"] = {key: _value(value) for key, value in sorted(message.parameters.items())}
    head = json.dumps(content | {"outputs": outputs}, separators=(",", ":"), ensure_ascii=False).encode()
    return (head + b"".join(blocks), len(head)) if blocks else (head, None)


def _read_input(message: oip.ModelInferRequest, item: Any, binary: bytes, at: int) -> int:
    """Adds an input; returns where the next one's binary data begins."""
    if not isinstance(item, dict):
        raise InvalidInput(f"inputs: expected objects, got {type(item).__name__}")
    name, shape = _name(item, "inputs"), _shape(item)
    datatype = datatypes.check_datatype(_text(item, "datatype"))
    parameters = _object(item, "parameters")
    size = parameters.pop("binary_data_size", None)
    added = message.inputs.add(name=name, datatype=datatype, shape=shape)
    _set_parameters(added.parameters, parameters, f"input '{name}'")
    if size is None:
        message.raw_input_contents.append(json_tensors.to_raw(name, datatype, shape, item.get("data")))
        return at
    if "data" in item:
        raise BadTensor.of(name, "either data or binary_data_size", "both")
    if type(size) is not int or not 0 <= size <= len(binary) - at:
        raise BadTensor.of(name, f"binary_data_size up to the {len(binary) - at} bytes that are left", repr(size))
    message.raw_input_contents.append(binary[at : at + size])
    return at + size


def _read_output(message: oip.ModelInferRequest, item: Any, rest: bool) -> tuple[str, bool]:
    if not isinstance(item, dict):
        raise InvalidInput(f"outputs: expected objects, got {type(item).__name__}")
    name, parameters = _name(item, "outputs"), _object(item, "parameters")
    binary = bool(parameters.pop("binary_data", rest))
    added = message.outputs.add(name=name)
    _set_parameters(added.parameters, parameters, f"output '{name}'")
    return name, binary


def _raw_shape(name: str, datatype: str, shape: list[int], binary: bytes) -> list[int]:
    """Returns the concrete shape: 1 for the batch, and at most one other unknown dimension from the size."""
    concrete = [1 if at == 0 and size == -1 else size for at, size in enumerate(shape)]
    unknown = [at for at, size in enumerate(concrete) if size == -1]
    if datatype == "BYTES":
        return [1 if size == -1 else size for size in concrete]
    if len(unknown) > 1:
        raise BadTensor.of(name, "at most one unknown dimension for a raw request", f"shape {shape}")
    if unknown:
        known = datatypes.elements(size for size in concrete if size != -1) * datatypes.ITEM_SIZES[datatype]
        concrete[unknown[0]] = len(binary) // known if known else 0
    return concrete


def _set_parameters(target: Any, parameters: Mapping[str, Any], where: str) -> None:
    for key, value in parameters.items():
        if isinstance(value, bool):
            target[key].bool_param = value
        elif isinstance(value, int) and -(2**63) <= value < 2**63:
            target[key].int64_param = value
        elif isinstance(value, float):
            target[key].double_param = value
        elif isinstance(value, str):
            target[key].string_param = value
        else:
            raise InvalidInput(f"{where}: '{key}': expected a number, text or boolean, got {type(value).__name__}")


def _value(parameter: oip.InferParameter) -> Any:
    kind = parameter.WhichOneof("parameter_choice")
    return getattr(parameter, kind) if kind else None


def _text(content: Mapping[str, Any], key: str) -> str:
    value = content.get(key, "")
    if not isinstance(value, str):
        raise InvalidInput(f"{key}: expected text, got {type(value).__name__}", violations=[(key, "not text")])
    return value


def _name(item: Mapping[str, Any], where: str) -> str:
    name = _text(item, "name")
    if not name:
        raise InvalidInput(f"{where}: expected a name for every tensor, got none", violations=[(where, "no name")])
    return name


def _object(content: Mapping[str, Any], key: str) -> dict[str, Any]:
    value = content.get(key) or {}
    if not isinstance(value, dict):
        raise InvalidInput(f"{key}: expected an object, got {type(value).__name__}", violations=[(key, "no object")])
    return dict(value)


def _list(content: Mapping[str, Any], key: str, missing: Sequence[Any] | None = None) -> Sequence[Any]:
    value = content.get(key, missing)
    if not isinstance(value, list):
        got = "nothing" if value is None else type(value).__name__
        raise InvalidInput(f"{key}: expected a list, got {got}", violations=[(key, "no list")])
    return value


def _shape(item: Mapping[str, Any]) -> list[int]:
    shape = item.get("shape")
    if not isinstance(shape, list) or any(type(size) is not int or not 0 <= size < 2**63 for size in shape):
        name = str(item.get("name", ""))
        raise BadTensor.of(name, "a shape: a list of whole numbers from 0", json.dumps(shape, default=str)[:100])
    return shape
