"""The table of errors: every class has its code, and comes back as itself."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2

from infermesh import errors
from infermesh.mesh import status


def leaves(cls: type[errors.MeshError]) -> list[type[errors.MeshError]]:
    return [cls, *(leaf for child in cls.__subclasses__() for leaf in leaves(child))]


TREE = [cls for cls in leaves(errors.MeshError) if cls is not errors.MeshError]


@pytest.mark.parametrize("cls", TREE)
def test_every_error_comes_back_as_itself(cls: type[errors.MeshError]) -> None:
    sent = cls("what and why", metadata={"a": "1"}, retry_after=2.5, violations=[("inputs.x", "expected FP32")])
    got = status.from_status(status.to_status(sent))
    assert type(got) is cls
    assert (got.message, got.reason, got.metadata) == (sent.message, sent.reason, sent.metadata)
    assert got.retry_after == pytest.approx(2.5)
    assert got.violations == sent.violations


@pytest.mark.parametrize("cls", TREE)
def test_an_instance_may_be_more_exact_than_its_class(cls: type[errors.MeshError]) -> None:
    got = status.from_status(status.to_status(cls("x", reason="SPECIAL_CASE")))
    assert got.reason == "SPECIAL_CASE"


@pytest.mark.parametrize(
    ("error", "code", "http"),
    [
        (errors.NotFound.of("model", "m"), grpc.StatusCode.NOT_FOUND, 404),
        (errors.NotReady("loading", retry_after=1), grpc.StatusCode.UNAVAILABLE, 503),
        (errors.LoadFailed("bad file"), grpc.StatusCode.FAILED_PRECONDITION, 409),
        (errors.BadTensor.of("x", "FP32", "INT8"), grpc.StatusCode.INVALID_ARGUMENT, 400),
        (errors.Overloaded("full"), grpc.StatusCode.RESOURCE_EXHAUSTED, 429),
        (errors.DeadlineExceeded("late"), grpc.StatusCode.DEADLINE_EXCEEDED, 504),
        (errors.Cancelled("gone"), grpc.StatusCode.CANCELLED, 499),
        (errors.Unauthenticated("who"), grpc.StatusCode.UNAUTHENTICATED, 401),
        (errors.PermissionDenied("no"), grpc.StatusCode.PERMISSION_DENIED, 403),
        (errors.Conflict("stale"), grpc.StatusCode.ABORTED, 409),
        (errors.WorkerLost("died"), grpc.StatusCode.UNAVAILABLE, 503),
        (ValueError("ours"), grpc.StatusCode.INTERNAL, 500),
    ],
)
def test_the_codes_that_users_rely_on(error: Exception, code: grpc.StatusCode, http: int) -> None:
    assert (status.code_of(error), status.http_of(error)) == (code, http)


def test_a_foreign_exception_shows_a_request_id_and_nothing_else() -> None:
    shown = status.to_status(RuntimeError("password=hunter2"))
    assert shown.code == grpc.StatusCode.INTERNAL.value[0]
    assert "hunter2" not in str(shown)
    info = error_details_pb2.ErrorInfo()
    assert shown.details[0].Unpack(info)
    assert len(info.metadata["request_id"]) == 32


def test_a_foreign_status_becomes_the_nearest_class() -> None:
    got = status.from_status(status_pb2.Status(code=8, message="too much"))
    assert type(got) is errors.Overloaded
    assert got.message == "too much"
    assert type(status.from_status(status_pb2.Status(code=99))) is errors.Internal


def test_a_forged_class_name_does_not_change_the_code() -> None:
    forged = status.to_status(errors.InvalidInput("x", metadata={}))
    info = error_details_pb2.ErrorInfo(reason="X", metadata={"class": "NotFound"})
    del forged.details[:]
    forged.details.add().Pack(info)
    assert type(status.from_status(forged)) is errors.InvalidInput


def test_retry_after_is_whole_seconds_and_never_zero() -> None:
    assert status.headers_of(errors.NotReady("x", retry_after=0.2)) == {"retry-after": "1"}
    assert status.headers_of(errors.NotReady("x", retry_after=1.2)) == {"retry-after": "2"}
    assert status.headers_of(errors.NotReady("x")) == {}
