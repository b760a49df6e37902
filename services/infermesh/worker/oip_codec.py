"""Reads requests and writes responses of the Open Inference Protocol for one version, by its signature.

This is the hot path: everything that depends on the signature alone is prepared once, shapes that were found good are
remembered, and responses are put together from serialised pieces. The raw bytes of tensors are never looked into.
"""

from collections.abc import Hashable, Sequence
from dataclasses import dataclass, replace
from typing import Final

from google.protobuf.message import DecodeError

from infermesh.datatypes import ITEM_SIZES, elements
from infermesh.errors import BadTensor, InvalidInput
from infermesh.mesh.parcel import LARGE, Pieces
from infermesh.mesh.wire import Bytes, varint
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import model_pb2, tensor_pb2
from infermesh.worker.contents import count_bytes, raw_of
from infermesh.worker.oip_memo import Memo
from infermesh.worker.oip_request import (
    NO_WISHES,
    Wanted,
    Wishes,
    check_input_parameters,
    read_outputs,
    read_parameters,
)

_REMEMBERED: Final = 512  # shapes per tensor; more would let callers grow our memory
# protobuf tags of ModelInferResponse: field number << 3 | 2 (length-delimited)
_ID: Final = b"\x1a"
_OUTPUT: Final = b"\x2a"
_RAW: Final = b"\x32"
_FINAL: Final = oip.ModelInferResponse(
    parameters={"triton_final_response": oip.InferParameter(bool_param=True)}
).SerializeToString()


@dataclass(slots=True)
class Request:
    """A checked request. `buffers` and `shapes` are in the order of the signature; no `wanted` means every output.

    Requests of one `group` fit into one batch. `rows` is 1 where the version has no batch dimension.
    """

    id: str
    rows: int
    group: Hashable
    shapes: list[tuple[int, ...]]
    buffers: list[Bytes]
    wanted: tuple[Wanted, ...] = ()
    wishes: Wishes = NO_WISHES


class Codec:
    """Speaks the protocol for one version of one deployment. Stateless but for remembered shapes."""

    def __init__(self, deployment: str, number: str, version: model_pb2.ModelVersion) -> None:
        self.max_rows = version.max_batch_size
        self.inputs = tuple(_Input(spec, at, self.max_rows) for at, spec in enumerate(version.signature.inputs))
        self.outputs = tuple(spec.name for spec in version.signature.outputs)
        self._by_name = {rule.name: rule for rule in self.inputs}
        self._head = oip.ModelInferResponse(model_name=deployment, model_version=number).SerializeToString()
        self._memo = Memo()
        self._memorable = all(rule.datatype in ITEM_SIZES for rule in self.inputs)
        self._known: list[tuple[Request, list[int] | None]] = []
        self._headers: dict[tuple[str, str, tuple[int, ...]], bytes] = {}

    def parse(self, payload: Bytes) -> Request:
        """Returns the checked request in a serialised ModelInferRequest. Raises InvalidInput or Unsupported."""
        known = self._memo.match(payload) if self._memorable else None
        if known is not None:
            number, id, raws = known
            like, order = self._known[number]
            try:
                text = id.decode()
            except UnicodeDecodeError:
                pass  # the parser says what is wrong with it
            else:
                buffers = raws if order is None else [raws[at] for at in order]
                return Request(text, like.rows, like.group, like.shapes, buffers, like.wanted, like.wishes)
        return self._parse(payload)

    def _parse(self, payload: Bytes) -> Request:
        try:
            message = oip.ModelInferRequest.FromString(bytes(payload))
        except DecodeError as error:
            raise InvalidInput("request: expected a serialised ModelInferRequest, got bytes that are none") from error
        request = self.read(message)
        if self._memorable and message.raw_input_contents and message.SerializeToString() == payload:
            self._learn(payload, message, request)
        return request

    def _learn(self, payload: Bytes, message: oip.ModelInferRequest, request: Request) -> None:
        sizes = [len(raw) for raw in message.raw_input_contents]
        if self._memo.learn(payload, request.id, sizes, len(self._known)):
            # the memo gives raw contents in the request's order, we want the signature's
            places = [self._by_name[tensor.name].at for tensor in message.inputs]
            order = sorted(range(len(places)), key=places.__getitem__)
            self._known.append((replace(request, buffers=[]), None if order == list(range(len(order))) else order))

    def read(self, message: oip.ModelInferRequest) -> Request:
        """Returns the checked request. Raises InvalidInput or Unsupported."""
        tensors, raw = message.inputs, message.raw_input_contents
        if raw and len(raw) != len(tensors):
            raise InvalidInput(
                f"raw_input_contents: expected one entry for each of {len(tensors)} inputs, got {len(raw)}"
            )
        count = len(self.inputs)
        shapes: list[tuple[int, ...]] = [()] * count
        buffers: list[Bytes | None] = [None] * count
        for at, tensor in enumerate(tensors):
            rule = self._by_name.get(tensor.name)
            if rule is None:
                raise BadTensor.of(tensor.name, f"an input named {self._names()}", "an unknown name")
            if buffers[rule.at] is not None:
                raise BadTensor.of(rule.name, "one tensor of this name", "two")
            shapes[rule.at], buffers[rule.at] = rule.read(tensor, raw[at] if raw else None)
        if len(tensors) != count:
            missing = next(rule.name for rule in self.inputs if buffers[rule.at] is None)
            raise BadTensor.of(missing, "an input of this name", "none")
        return Request(
            message.id,
            self._rows(shapes),
            self._group(shapes),
            shapes,
            buffers,  # type: ignore[arg-type]  # every one was set: as many as inputs, none twice
            read_outputs(message.outputs, self.outputs) if message.outputs else (),
            read_parameters(message.parameters) if message.parameters else NO_WISHES,
        )

    def _names(self) -> str:
        return " or ".join(f"'{rule.name}'" for rule in self.inputs)

    def _rows(self, shapes: Sequence[tuple[int, ...]]) -> int:
        if not self.max_rows:
            return 1
        rows = shapes[0][0] if shapes else 1
        for rule, shape in zip(self.inputs, shapes, strict=True):
            if shape[0] != rows:
                raise BadTensor.of(rule.name, f"{rows} rows as in tensor '{self.inputs[0].name}'", f"{shape[0]} rows")
        if rows > self.max_rows:
            raise InvalidInput(
                f"batch: expected at most {self.max_rows} rows (max_batch_size), got {rows}: split the request",
                metadata={"max_batch_size": str(self.max_rows), "got": str(rows)},
                violations=[("inputs", f"expected at most {self.max_rows} rows, got {rows}")],
            )
        return rows

    def _group(self, shapes: list[tuple[int, ...]]) -> Hashable:
        if not self.max_rows:
            return None
        varying = [shapes[rule.at][1:] for rule in self.inputs if rule.varies]
        return tuple(varying) if varying else None

    def prefix(self, request: Request) -> bytes:
        """Returns how every response to a request begins: the version and the id."""
        if not request.id:
            return self._head
        encoded = request.id.encode()
        return self._head + _ID + varint(len(encoded)) + encoded

    def respond(
        self, request: Request, outputs: Sequence[tuple[str, str, tuple[int, ...], Bytes]], final: bool
    ) -> bytes | Pieces:
        """Returns a serialised ModelInferResponse with outputs given as name, datatype, shape and raw bytes.

        Large ones are not copied into it: then it comes in pieces. `final` marks the last response of a stream.
        """
        parts: list[Bytes] = [self._head]
        if request.id:
            encoded = request.id.encode()
            parts += (_ID, varint(len(encoded)), encoded)
        if final:
            parts.append(_FINAL)
        raws: list[Bytes] = []
        large = False
        for name, datatype, shape, data in outputs:
            parts.append(self._headers.get((name, datatype, shape)) or self.header(name, datatype, shape))
            raws += (_RAW, varint(len(data)), data)
            large = large or len(data) >= LARGE
        return (b"".join(parts), *raws) if large else b"".join(parts + raws)

    def header(self, name: str, datatype: str, shape: tuple[int, ...]) -> bytes:
        """Returns the field that describes an output; its raw bytes are another, see `raw_tag`."""
        key = (name, datatype, shape)
        header = self._headers.get(key)
        if header is None:
            tensor = oip.ModelInferResponse.InferOutputTensor(name=name, datatype=datatype, shape=shape)
            body = tensor.SerializeToString()
            header = _OUTPUT + varint(len(body)) + body
            if len(self._headers) < _REMEMBERED:
                self._headers[key] = header
        return header


def raw_tag(size: int) -> bytes:
    """Returns what goes before the raw bytes of an output."""
    return _RAW + varint(size)


class _Input:
    """The rule of one input: what its tensors must look like."""

    def __init__(self, spec: tensor_pb2.TensorSpec, at: int, max_rows: int) -> None:
        self.name, self.datatype, self.shape, self.at = spec.name, spec.datatype, tuple(spec.shape), at
        self.varies = any(size < 0 for size in self.shape[1:])
        self._batched = max_rows > 0
        self._item = ITEM_SIZES.get(spec.datatype, 0)
        self._sizes: dict[tuple[int, ...], int] = {}

    def read(self, tensor: oip.ModelInferRequest.InferInputTensor, raw: bytes | None) -> tuple[tuple[int, ...], bytes]:
        """Returns shape and raw bytes of a tensor that obeys the rule. Raises BadTensor."""
        if tensor.datatype != self.datatype:
            raise BadTensor.of(self.name, f"datatype {self.datatype}", f"datatype {tensor.datatype or '(empty)'}")
        shape = tuple(tensor.shape)
        size = self._sizes.get(shape)
        if size is None:
            size = self._check(shape)
        if tensor.parameters:
            check_input_parameters(self.name, tensor.parameters)
        data = self._data(tensor, raw)
        if self._item:
            if len(data) != size:
                raise BadTensor.of(self.name, f"{size} bytes for {self.datatype}{list(shape)}", f"{len(data)} bytes")
        elif (got := count_bytes(self.name, data)) != size:
            raise BadTensor.of(self.name, f"{size} elements for {self.datatype}{list(shape)}", f"{got} elements")
        return shape, data

    def _data(self, tensor: oip.ModelInferRequest.InferInputTensor, raw: bytes | None) -> bytes:
        if raw is None:
            return raw_of(self.name, self.datatype, tensor.contents)
        if tensor.HasField("contents"):
            raise BadTensor.of(self.name, "either raw_input_contents or contents", "both")
        return raw

    def _check(self, shape: tuple[int, ...]) -> int:
        """Returns the size of a good shape, in bytes (BYTES: in elements), and remembers it."""
        fits = len(shape) == len(self.shape) and all(
            got == want or (want < 0 <= got) for got, want in zip(shape, self.shape, strict=True)
        )
        if not fits:
            raise BadTensor.of(self.name, f"shape {list(self.shape)} (-1: any size)", f"shape {list(shape)}")
        if self._batched and shape[0] < 1:
            raise BadTensor.of(self.name, "at least 1 row", f"shape {list(shape)}")
        size = elements(shape) * (self._item or 1)
        if len(self._sizes) < _REMEMBERED:
            self._sizes[shape] = size
        return size
