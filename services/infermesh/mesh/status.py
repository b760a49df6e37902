"""The one table between the errors of the mesh and status codes, and the way back. Used by every room that speaks a
protocol."""

import math
import uuid
from typing import Final

import grpc
from google.protobuf.message import DecodeError, Message
from google.rpc import error_details_pb2, status_pb2

from infermesh import errors
from infermesh.errors import MeshError

DOMAIN: Final = "infermesh"
DETAILS_KEY: Final = "grpc-status-details-bin"

_TABLE: Final[dict[type[MeshError], tuple[grpc.StatusCode, int]]] = {
    errors.InvalidInput: (grpc.StatusCode.INVALID_ARGUMENT, 400),
    errors.OutOfRange: (grpc.StatusCode.OUT_OF_RANGE, 400),
    errors.NotFound: (grpc.StatusCode.NOT_FOUND, 404),
    errors.AlreadyExists: (grpc.StatusCode.ALREADY_EXISTS, 409),
    errors.Conflict: (grpc.StatusCode.ABORTED, 409),
    errors.FailedPrecondition: (grpc.StatusCode.FAILED_PRECONDITION, 409),
    errors.NotReady: (grpc.StatusCode.UNAVAILABLE, 503),
    errors.Overloaded: (grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
    errors.TooLarge: (grpc.StatusCode.RESOURCE_EXHAUSTED, 413),
    errors.DeadlineExceeded: (grpc.StatusCode.DEADLINE_EXCEEDED, 504),
    errors.Cancelled: (grpc.StatusCode.CANCELLED, 499),
    errors.Unauthenticated: (grpc.StatusCode.UNAUTHENTICATED, 401),
    errors.PermissionDenied: (grpc.StatusCode.PERMISSION_DENIED, 403),
    errors.Unsupported: (grpc.StatusCode.UNIMPLEMENTED, 501),
    errors.DataLoss: (grpc.StatusCode.DATA_LOSS, 500),
    errors.ConfigError: (grpc.StatusCode.FAILED_PRECONDITION, 409),
    errors.Internal: (grpc.StatusCode.INTERNAL, 500),
    MeshError: (grpc.StatusCode.INTERNAL, 500),
}
_CODES: Final = {code.value[0]: code for code in grpc.StatusCode}


def _subclasses(cls: type[MeshError]) -> list[type[MeshError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in _subclasses(child))]


_BY_CODE: Final = {code: cls for cls, (code, _) in reversed(_TABLE.items()) if cls is not MeshError} | {
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.UNKNOWN: errors.Internal,
}


def _row(error: BaseException) -> tuple[grpc.StatusCode, int]:
    for cls in type(error).__mro__:
        if cls in _TABLE:
            return _TABLE[cls]
    return grpc.StatusCode.INTERNAL, 500


def code_of(error: BaseException) -> grpc.StatusCode:
    """Returns the gRPC code of an error; INTERNAL for anything outside the tree."""
    return _row(error)[0]


def http_of(error: BaseException) -> int:
    """Returns the HTTP status of an error; 500 for anything outside the tree."""
    return _row(error)[1]


def code_number(error: BaseException) -> int:
    """Returns the gRPC code of an error as the number that travels."""
    return int(code_of(error).value[0])


def headers_of(error: BaseException) -> dict[str, str]:
    """Returns the HTTP headers that go with an error: Retry-After in whole seconds."""
    after = getattr(error, "retry_after", None)
    return {} if after is None else {"retry-after": str(max(1, math.ceil(after)))}


def public(error: BaseException) -> MeshError:
    """Returns the error as a caller may see it: one from outside the tree becomes Internal with a request id only."""
    if isinstance(error, MeshError) and not isinstance(error, errors.Internal):
        return error
    request_id = uuid.uuid4().hex
    hidden = errors.Internal(f"internal error, request id {request_id}", metadata={"request_id": request_id})
    hidden.__cause__ = error
    return hidden


def to_status(error: BaseException) -> status_pb2.Status:
    """Returns the rich status of an error (google.rpc.Status with ErrorInfo, RetryInfo and BadRequest)."""
    shown = error if isinstance(error, MeshError) else public(error)
    status = status_pb2.Status(code=code_number(shown), message=shown.message)
    info = error_details_pb2.ErrorInfo(reason=shown.reason, domain=DOMAIN, metadata=shown.metadata)
    info.metadata["class"] = type(shown).__name__
    _pack(status, info)
    if shown.retry_after is not None:
        retry = error_details_pb2.RetryInfo()
        retry.retry_delay.FromNanoseconds(int(shown.retry_after * 1e9))
        _pack(status, retry)
    if shown.violations:
        bad = error_details_pb2.BadRequest()
        for field, description in shown.violations:
            bad.field_violations.add(field=field, description=description)
        _pack(status, bad)
    return status


def _pack(status: status_pb2.Status, detail: Message) -> None:
    status.details.add().Pack(detail)


def from_status(status: status_pb2.Status) -> MeshError:
    """Rebuilds the error that `to_status` was given; of a foreign status, the nearest class by its code."""
    code = _CODES.get(status.code, grpc.StatusCode.UNKNOWN)
    cls: type[MeshError] = _BY_CODE.get(code, errors.Internal)
    error = cls(status.message)
    for detail in status.details:
        _unpack(detail, error)
    named = error.metadata.pop("class", "")
    known = {c.__name__: c for c in _subclasses(MeshError)}
    if named in known and _code_of_class(known[named]) == code:
        error.__class__ = known[named]
    return error


def _code_of_class(cls: type[MeshError]) -> grpc.StatusCode:
    return next(_TABLE[base][0] for base in cls.__mro__ if base in _TABLE)


def _unpack(detail: Message, error: MeshError) -> None:
    info, retry, bad = error_details_pb2.ErrorInfo(), error_details_pb2.RetryInfo(), error_details_pb2.BadRequest()
    if detail.Unpack(info):  # type: ignore[attr-defined]
        error.reason = info.reason  # type: ignore[misc]
        error.metadata.update(info.metadata)
    elif detail.Unpack(retry):  # type: ignore[attr-defined]
        error.retry_after = retry.retry_delay.ToNanoseconds() / 1e9
    elif detail.Unpack(bad):  # type: ignore[attr-defined]
        error.violations = tuple((v.field, v.description) for v in bad.field_violations)


def from_rpc_error(error: grpc.RpcError) -> MeshError:
    """Rebuilds the error behind a failed call (grpc.aio or sync), by its rich status or else its code and text."""
    for key, value in error.trailing_metadata() or ():
        if key == DETAILS_KEY:
            status = status_pb2.Status()
            try:
                status.ParseFromString(value)
            except DecodeError:
                break
            if status.code == error.code().value[0]:
                return from_status(status)
    code: grpc.StatusCode = error.code()
    return _BY_CODE.get(code, errors.Internal)(error.details() or code.name)
