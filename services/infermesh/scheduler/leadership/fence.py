"""What a server of the leader does with calls that come when it leads no more."""

from collections.abc import Awaitable, Callable
from typing import Any

import grpc
import grpc.aio
from grpc_status import rpc_status

from infermesh.errors import NotReady
from infermesh.mesh import status


class Fence(grpc.aio.ServerInterceptor):
    """Refuses calls unless `holds`: a process that was stopped for a while may find calls before it finds that it has
    lost the lead."""

    def __init__(self, holds: Callable[[], bool]) -> None:
        self._holds = holds
        self._refusal = grpc.unary_unary_rpc_method_handler(_refuse)

    async def intercept_service(
        self, continuation: Callable[[Any], Awaitable[Any]], details: grpc.HandlerCallDetails
    ) -> Any:
        """Returns the handler of a call, or one that refuses it."""
        return await continuation(details) if self._holds() else self._refusal


async def _refuse(request: Any, context: Any) -> None:
    error = NotReady("scheduler: another one leads now: call again, and you will be answered by it", retry_after=1.0)
    await context.abort_with_status(rpc_status.to_status(status.to_status(error)))
