"""A gateway without workers, registry and scheduler: real routes and front ends over scripted everything else."""

import asyncio
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import grpc
import grpc.aio
from prometheus_client import CollectorRegistry

from infermesh.errors import MeshError
from infermesh.gateway.calls import Call
from infermesh.gateway.framing.frames import Limits
from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.methods import Methods
from infermesh.gateway.front import Front, mount
from infermesh.gateway.frontends import TABLE
from infermesh.gateway.frontends.base import Parts
from infermesh.gateway.pending import Pending, PendingStream
from infermesh.gateway.routes import RouteTable
from infermesh.gateway.stats import TargetStats
from infermesh.mesh import status
from infermesh.mesh.health import Health
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1.scheduler_service_pb2 import RouteSnapshot
from tests.unit.gateway_front.wire import Answer, Wire, body, framed, scope


class Script:
    """Plays the worker to a `PendingStream`: delivers responses and errors, one in each turn of the event loop."""

    def __init__(self, call: Call, script: list[bytes | MeshError], ends_empty: bool = False) -> None:
        loop = asyncio.get_running_loop()
        self.pending = PendingStream(call, Unowned(), 1, loop, 1 << 20)
        self._script = script
        self._ends_empty = ends_empty

    def begin(self) -> PendingStream:
        """Begins to deliver."""
        self.pending.get_loop().call_soon(self.play)
        return self.pending

    def play(self) -> None:
        """Delivers the next."""
        item = self._script.pop(0) if self._script else b""
        if isinstance(item, MeshError):
            self.pending.fail(item)
        else:
            self.pending.deliver(item, not self._script and (not self._ends_empty or not item), 0, 0)
        if not self.pending.done():
            self.pending.get_loop().call_later(0.001, self.play)


class Unowned:
    """Owns calls, and does nothing for them."""

    def withdraw(self, pending: Pending) -> None:
        """See `Owner`."""

    def ended(self, pending: Pending, code: str, queue_us: int, compute_us: int) -> None:
        """See `Owner`."""


class FakeDispatcher:
    """Answers calls by `on_call`; by default with the request's id and its first raw input."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self.on_call: Callable[[Call], bytes | MeshError | asyncio.Future[bytes]] = echo
        self.script: Callable[[Call], list[bytes | MeshError]] | None = None
        self.ends_empty = False

    def infer(self, call: Call) -> asyncio.Future[bytes]:
        """Returns the answer's future."""
        self.calls.append(call)
        answer = self.on_call(call)
        if isinstance(answer, asyncio.Future):
            return answer
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        if isinstance(answer, MeshError):
            future.set_exception(answer)
        else:
            future.set_result(answer)
        return future

    def submit(self, call: Call, sink: Any) -> asyncio.Future[bytes]:
        """Gives `sink` the answer."""

        def told(future: asyncio.Future[bytes]) -> None:
            if not future.cancelled():
                error = future.exception()
                sink.answer(future.result()) if error is None else sink.fail(error)

        future = self.infer(call)
        future.add_done_callback(told)
        return future

    def stream(self, call: Call) -> Any:
        """Returns the responses."""
        self.calls.append(call)
        script = self.script(call) if self.script is not None else [self.on_call(call)]
        return Script(call, script, self.ends_empty).begin()


def echo(call: Call) -> bytes:
    """Returns a response that holds the first input as output `y`."""
    request = oip.ModelInferRequest.FromString(call.payload)
    response = oip.ModelInferResponse(model_name=request.model_name, model_version="2", id=request.id)
    for tensor, raw in zip(request.inputs[:1], request.raw_input_contents, strict=False):
        response.outputs.add(name="y", datatype=tensor.datatype, shape=tensor.shape)
        response.raw_output_contents.append(raw)
    return response.SerializeToString()


class FakeChannel:
    """A channel whose unary methods are functions of messages; they may raise errors of the tree."""

    def __init__(self) -> None:
        self.answers: dict[str, Callable[[Any], Any]] = {}
        self.asked: list[tuple[str, Any]] = []

    def unary_unary(self, path: str, **codecs: Any) -> Callable[..., Any]:
        """Returns the call of a method."""

        async def call(request: Any, timeout: float | None = None) -> Any:
            await asyncio.sleep(0)
            self.asked.append((path, request))
            if path not in self.answers:
                raise rpc_error(grpc.StatusCode.UNAVAILABLE, "nobody there")
            try:
                return self.answers[path](request)
            except MeshError as error:
                rich = status.to_status(error)
                trailing = grpc.aio.Metadata((status.DETAILS_KEY, rich.SerializeToString()))
                raise rpc_error(status.code_of(error), error.message, trailing) from error

        return call


def rpc_error(code: grpc.StatusCode, text: str, trailing: Any = None) -> grpc.aio.AioRpcError:
    """Returns the error of a failed call."""
    return grpc.aio.AioRpcError(code, grpc.aio.Metadata(), trailing or grpc.aio.Metadata(), text)


class House:
    """All parts, and a front of some or all front ends over them."""

    def __init__(self, snapshot: RouteSnapshot | None = None, *names: str) -> None:
        self.routes = RouteTable()
        if snapshot is not None:
            self.routes.apply(snapshot)
        self.dispatcher = FakeDispatcher()
        self.registry, self.scheduler, self.worker = FakeChannel(), FakeChannel(), FakeChannel()
        self.health, self.metrics = Health(), CollectorRegistry()
        services: set[str] = set()
        closers: list[Callable[[], None]] = []
        self.stats: list[TargetStats] = []
        core: Any = SimpleNamespace(routes=self.routes, dispatcher=self.dispatcher, stats=lambda: self.stats)
        channels: Any = (self.registry, self.scheduler, lambda address: self.worker)
        guard = Guard(Limits(1 << 20))
        self.parts = Parts(core, *channels, self.health, self.metrics, lambda: services, closers.append, guard)
        self.frontends = {name: TABLE.load(name)(self.parts) for name in names or TABLE.names()}
        self.front: Front = mount(list(self.frontends.values()), guard, closers)
        services.update(self.front.services())

    def methods(self) -> Methods:
        """Returns every mounted gRPC method."""
        return {path: m for frontend in self.frontends.values() for path, m in frontend.methods().items()}

    async def rpc(self, path: str, *messages: Any, headers: tuple[tuple[str, str], ...] = ()) -> Answer:
        """Runs a gRPC call with messages (or bytes)."""
        data = framed(*(m if isinstance(m, bytes) else m.SerializeToString() for m in messages))
        wire = Wire(body(data))
        await self.front(scope(path, headers), wire.receive, wire.send)
        wire.answer.check_order()
        return wire.answer

    async def http(
        self, method: str, path: str, data: bytes = b"", headers: tuple[tuple[str, str], ...] = ()
    ) -> Answer:
        """Runs an HTTP request."""
        wire = Wire(body(data))
        raw = [(key.encode(), value.encode()) for key, value in headers]
        request = {"type": "http", "method": method, "path": path, "http_version": "1.1", "headers": raw}
        request |= {"query_string": b"", "raw_path": path.encode(), "root_path": ""}
        await self.front(request, wire.receive, wire.send)
        return wire.answer
