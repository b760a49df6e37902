"""What a caller hears when a call that was passed on fails."""

import grpc
import grpc.aio
import pytest

from infermesh.errors import NotReady
from infermesh.gateway.framing.failure import RpcFailure
from infermesh.gateway.frontends.proxy import failure_of
from infermesh.mesh.channel import connect
from infermesh.mesh.status import DETAILS_KEY


async def test_a_service_that_is_away_is_told_without_its_address():
    channel = connect("127.0.0.1:1")  # nobody may listen there
    try:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await channel.unary_unary("/any/Method")(b"", timeout=20)
    finally:
        await channel.close()
    failure = failure_of(refused.value)
    assert isinstance(failure, NotReady)
    assert failure.retry_after == 1.0
    assert "127.0.0.1" not in failure.message


def rpc_error(code, text, trailing=()):
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), grpc.aio.Metadata(*trailing), text)


def test_a_connection_that_broke_does_not_say_that_the_call_may_be_repeated():
    failure = failure_of(rpc_error(grpc.StatusCode.UNAVAILABLE, "Socket closed"))
    assert isinstance(failure, NotReady)
    assert failure.retry_after is None


@pytest.mark.parametrize("code", [grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.ABORTED])
def test_a_status_of_the_service_is_passed_on_with_its_details(code):
    failure = failure_of(rpc_error(code, "as the service says", [(DETAILS_KEY, b"rich")]))
    assert isinstance(failure, RpcFailure)
    assert (failure.code, failure.message) == (code.value[0], "as the service says")
    assert list(failure.trailing) == [(DETAILS_KEY, b"rich")]
