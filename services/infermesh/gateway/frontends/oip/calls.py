"""Makes calls of requests: deadline and priority from the parameters, trace context from the metadata. Pure."""

from typing import Final

from infermesh.errors import InvalidInput
from infermesh.gateway.calls import Call
from infermesh.gateway.frontends.oip.wire import Head, Parameters, field, parameters_of
from infermesh.mesh.wire import varint
from infermesh.oip.v2 import grpc_service_pb2 as oip

FINAL: Final = "triton_final_response"
EMPTY_FINAL: Final = "triton_enable_empty_final_response"


def make_call(head: Head, payload: bytes, now: float, deadline: float | None, trace: tuple[str, str]) -> Call:
    """Returns the call of a request. Raises InvalidInput for a parameter of the wrong kind or size.

    `now` and `deadline` are of the event loop's clock; `trace` is traceparent and tracestate.
    """
    if not head.model:
        raise InvalidInput(
            "model_name: expected the name of a deployment, got nothing", violations=[("model_name", "")]
        )
    call = Call(head.model, head.version, payload, deadline, 0, *trace)
    if head.parameters:
        parameters = parameters_of(head)
        call.deadline = _deadline(parameters, now, deadline)
        call.priority = _priority(parameters)
    return call


def wants_empty_final(head: Head) -> bool:
    """Tells whether the caller wants an empty last response where the model itself sends none."""
    return bool(head.parameters) and parameters_of(head)[EMPTY_FINAL].bool_param


def _deadline(parameters: Parameters, now: float, deadline: float | None) -> float | None:
    if "timeout" not in parameters:
        return deadline
    microseconds = _integer("timeout", parameters["timeout"])
    if microseconds == 0:
        return deadline
    late = now + microseconds / 1e6
    return late if deadline is None else min(late, deadline)


def _priority(parameters: Parameters) -> int:
    # Triton counts from 1, the highest level; 0 is the default level, which is 1; ours is higher the earlier it goes
    level = _integer("priority", parameters["priority"]) if "priority" in parameters else 0
    return max(min(0, 1 - level), -(2**31))


def _integer(key: str, parameter: oip.InferParameter) -> int:
    kind = parameter.WhichOneof("parameter_choice")
    if kind not in ("int64_param", "uint64_param"):
        raise InvalidInput(f"parameter '{key}': expected an integer, got {kind or 'nothing'}")
    value: int = getattr(parameter, kind)
    if value < 0:
        raise InvalidInput(f"parameter '{key}': expected 0 or above, got {value}")
    return value


def _final_entry(final: bool) -> bytes:
    entry = field(1, FINAL.encode()) + field(2, oip.InferParameter(bool_param=final).SerializeToString())
    return field(4, entry)


_FINAL_ENTRIES: Final = {final: _final_entry(final) for final in (False, True)}
_SHORT: Final = tuple(b"\x12" + varint(size) for size in range(128))  # heads of field 2: this is done for every token


def stream_response(response: bytes, final: bool) -> bytes:
    """Returns the ModelStreamInferResponse of a serialised ModelInferResponse, which says whether it is the last.

    The response is not decoded: a parameter that is appended to its bytes is merged into its map.
    """
    entry = _FINAL_ENTRIES[final]
    size = len(response) + len(entry)
    return (_SHORT[size] if size < 128 else b"\x12" + varint(size)) + response + entry


def stream_error(head: Head, message: str) -> bytes:
    """Returns the ModelStreamInferResponse of a request that failed; the stream stays usable."""
    response = oip.ModelInferResponse(model_name=head.model, model_version=head.version, id=head.id)
    response.parameters[FINAL].bool_param = True
    return oip.ModelStreamInferResponse(error_message=message, infer_response=response).SerializeToString()


def empty_final(head: Head, version: str) -> bytes:
    """Returns the last ModelStreamInferResponse of a request whose model ended without one."""
    response = oip.ModelInferResponse(model_name=head.model, model_version=version, id=head.id)
    return stream_response(response.SerializeToString(), final=True)
