"""How a gRPC call ends badly: the trailers of an error. Used by `exchange`; front ends raise `RpcFailure` to end a call
with a status that came from elsewhere."""

import structlog

from infermesh.errors import Internal, MeshError
from infermesh.gateway.framing import metadata
from infermesh.gateway.framing.metadata import Header, Metadata
from infermesh.mesh import status


class RpcFailure(Exception):
    """Ends a call with exactly this status.

    `code` is the gRPC code's number; `trailing` goes out as it is, `grpc-status-details-bin` included.
    """

    def __init__(self, code: int, message: str, trailing: Metadata = ()) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.trailing = tuple(trailing)


def shown(error: BaseException) -> MeshError:
    """Returns the error as a caller may see it; a fault that another process has already hidden stays as it is."""
    if isinstance(error, MeshError) and (not isinstance(error, Internal) or "request_id" in error.metadata):
        return error
    return status.public(error)


def trailers_of(error: BaseException) -> list[Header]:
    """Returns the trailers that end a call with `error`; of an exception from outside the tree only a request id."""
    if isinstance(error, RpcFailure):
        return [
            (b"grpc-status", b"%d" % error.code),
            (b"grpc-message", metadata.percent_encode(error.message)),
            *metadata.encode(error.trailing),
        ]
    rich = status.to_status(error if isinstance(error, MeshError) else status.public(error))
    return [
        (b"grpc-status", b"%d" % rich.code),
        (b"grpc-message", metadata.percent_encode(rich.message)),
        *metadata.encode([(status.DETAILS_KEY, rich.SerializeToString())]),
    ]


def ending(error: Exception, path: str, trailing: Metadata) -> list[Header]:
    """Returns the trailers of a call that failed, with those that its handler attached; logs a fault of ours.

    An RpcFailure brings its own instead of the handler's.
    """
    if isinstance(error, RpcFailure):
        return trailers_of(error)
    public = shown(error)
    if public is not error:
        log = structlog.get_logger(__name__)
        log.error("unexpected error", method=path, request_id=public.metadata["request_id"], exc_info=error)
    return [*trailers_of(public), *metadata.encode(trailing)]
