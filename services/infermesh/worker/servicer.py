"""`infermesh.v1.WorkerService`: the bundled stream between a gateway and this worker. Registered by `main`."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import structlog
from opentelemetry.trace import Tracer

from infermesh.mesh.clock import Clock
from infermesh.v1 import worker_service_pb2 as pb
from infermesh.worker.serving import Serving
from infermesh.worker.streams import GatewayStream

SERVICE = "infermesh.v1.WorkerService"


class WorkerServicer:
    """Serves streams of bundles. One writer for each; the credit of a target is shared between the open ones."""

    def __init__(self, serving: Serving, clock: Clock, tracer: Tracer) -> None:
        self._serving, self._clock, self._tracer = serving, clock, tracer
        self._streams: dict[GatewayStream, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()
        self._log = structlog.get_logger(__name__)

    async def Serve(self, requests: AsyncIterator[pb.WorkBundle], context: Any) -> None:
        """Answers bundles of work until the gateway closes its side, or `stop`."""
        stream = GatewayStream(self._serving, self._clock, self._tracer, lambda: len(self._streams))
        # grpc may leave this coroutine where it is when the caller goes away: then only the callback runs in time
        context.add_done_callback(lambda _: self._drop(stream))
        reader = asyncio.create_task(self._read(requests, stream))
        try:
            self._streams[stream] = None
            self._empty.clear()
            self._share()
            stream.open(context.write)
            await stream.ended()
            if reader.done():
                reader.result()  # a fault of ours in there must not look like the gateway's goodbye
        finally:
            reader.cancel()
            self._drop(stream)

    async def _read(self, requests: AsyncIterator[pb.WorkBundle], stream: GatewayStream) -> None:
        try:
            async for bundle in requests:
                if bundle.gateway:
                    self._log.info("gateway connected", gateway=bundle.gateway)
                stream.take(bundle)
        finally:
            stream.end()

    def _drop(self, stream: GatewayStream) -> None:
        if stream in self._streams:
            del self._streams[stream]
            stream.close()
            self._share()
            if not self._streams:
                self._empty.set()

    def _share(self) -> None:
        """Tells every gateway its new share of the credit."""
        for stream in self._streams:
            stream.touch_all()

    async def left(self) -> None:
        """Returns once no gateway has a stream here. Of a draining worker each ends its own when it has read all."""
        await self._empty.wait()

    def stop(self) -> None:
        """Ends every stream as soon as what is under way on it has been answered."""
        for stream in self._streams:
            stream.end()


def add_to_server(servicer: WorkerServicer, server: grpc.aio.Server) -> None:
    """Registers the service."""
    handler = grpc.stream_stream_rpc_method_handler(
        servicer.Serve,
        request_deserializer=pb.WorkBundle.FromString,
        response_serializer=lambda bundle: bundle.SerializeToString(),
    )
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, {"Serve": handler}),))
