"""`google.longrunning.Operations`, under its true name: how deployments come about."""

import time
from collections.abc import Callable
from typing import Final, TypeAlias

import grpc.aio
from google.longrunning import operations_pb2 as pb
from google.longrunning.operations_pb2_grpc import OperationsServicer
from google.protobuf.empty_pb2 import Empty

from infermesh import names
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.changes import Changes
from infermesh.registry.rules import pages
from infermesh.registry.rules.fields import bad
from infermesh.registry.threads import Threads

Context: TypeAlias = grpc.aio.ServicerContext

_MARGIN: Final = 0.1  # share of the caller's deadline that is left for the answer to travel
_COLLECTION: Final = "operations"


class LongRunningServicer(OperationsServicer):
    """See google/longrunning/operations.proto. Cancelling gives up waiting; what is wanted stays wanted."""

    def __init__(
        self,
        catalog: Catalog,
        threads: Threads,
        changes: Changes,
        *,
        poll_interval: float | None,
        time: Callable[[], float] = time.monotonic,
    ) -> None:
        """`poll_interval` (seconds) is for a database that other processes write to."""
        self._operations = catalog.operations
        self._run = threads.run
        self._changes = changes
        self._poll_interval = poll_interval
        self._time = time

    async def GetOperation(self, request: pb.GetOperationRequest, context: Context) -> pb.Operation:
        """Returns an operation."""
        return await self._run(self._operations.get, _id(request.name))

    async def ListOperations(self, request: pb.ListOperationsRequest, context: Context) -> pb.ListOperationsResponse:
        """Lists operations, oldest first; `filter` may hold `done=true|false` and `deployment=deployments/{id}`."""
        if request.name not in ("", _COLLECTION):
            raise bad("name", f"'{_COLLECTION}'", request.name)
        done, deployment = _filter(request.filter)
        scope, size = (_COLLECTION, request.filter), pages.page_size(request.page_size)
        after = pages.decode(scope, request.page_token)
        found = await self._run(self._operations.page, done, deployment, after, size + 1)
        shown, token = pages.cut(scope, found, size, lambda item: item.name.rpartition("/")[2])
        return pb.ListOperationsResponse(operations=shown, next_page_token=token)

    async def WaitOperation(self, request: pb.WaitOperationRequest, context: Context) -> pb.Operation:
        """Returns the operation once it is done; as it stands after `timeout` or shortly before the call's deadline."""
        operation_id, until = _id(request.name), self._until(request, context)
        while True:
            mark = self._changes.mark
            operation = await self._run(self._operations.get, operation_id)
            left = None if until is None else until - self._time()
            if operation.done or self._changes.closed or (left is not None and left <= 0):
                return operation
            await self._changes.wait(mark, min((x for x in (left, self._poll_interval) if x is not None), default=None))

    def _until(self, request: pb.WaitOperationRequest, context: Context) -> float | None:
        limits = []
        if request.HasField("timeout"):
            limits.append(request.timeout.ToNanoseconds() / 1e9)
            if limits[0] < 0:
                raise bad("timeout", "0 or above", limits[0])
        remaining = context.time_remaining()
        if remaining is not None:
            limits.append(remaining * (1 - _MARGIN))
        return self._time() + min(limits) if limits else None

    async def CancelOperation(self, request: pb.CancelOperationRequest, context: Context) -> Empty:
        """Ends an operation as CANCELLED; nothing happens to one that is done."""
        await self._run(self._operations.cancel, _id(request.name))
        return Empty()

    async def DeleteOperation(self, request: pb.DeleteOperationRequest, context: Context) -> Empty:
        """Forgets an operation; what it stands for goes on."""
        await self._run(self._operations.delete, _id(request.name))
        return Empty()


def _id(name: str) -> str:
    return names.parse("operations/*", name)[0]


def _filter(text: str) -> tuple[bool | None, str]:
    done, deployment = None, ""
    for term in filter(None, (part.strip() for part in text.split(" AND "))):
        key, _, value = (part.strip() for part in term.partition("="))
        if key == "done" and value in ("true", "false"):
            done = value == "true"
        elif key == "deployment":
            (deployment,) = names.parse("deployments/*", value)
        else:
            raise bad("filter", "done=true, done=false or deployment=deployments/{id}, joined by ' AND '", term)
    return done, deployment
