"""`infermesh.v1.WorkerService`: the bundled stream between a gateway and this worker. Registered by `main`."""

import asyncio
from functools import partial

import grpc
import structlog
from google.protobuf.message import DecodeError
from opentelemetry.trace import Tracer

from infermesh.errors import InvalidInput, MeshError
from infermesh.mesh import status
from infermesh.mesh.clock import Clock
from infermesh.mesh.http2.outgoing import Fields
from infermesh.mesh.http2.server import RESPONSE, trailers
from infermesh.mesh.http2.stream import Stream
from infermesh.mesh.parcel import Parcel, pieces, read
from infermesh.v1 import worker_service_pb2 as pb
from infermesh.worker.serving import Serving
from infermesh.worker.streams import GatewayStream

SERVE = "/infermesh.v1.WorkerService/Serve"


class WorkerServicer:
    """Serves streams of bundles. One writer for each; the credit of a target is shared between the open ones."""

    def __init__(self, serving: Serving, clock: Clock, tracer: Tracer) -> None:
        self._serving, self._clock, self._tracer = serving, clock, tracer
        self._streams: dict[GatewayStream, None] = {}
        self._empty = asyncio.Event()
        self._empty.set()

    def serve(self, stream: Stream) -> "_Session":
        """Answers bundles of work until the gateway closes its side, or `stop`."""
        made = GatewayStream(self._serving, self._clock, self._tracer, lambda: len(self._streams))
        self._streams[made] = None
        self._empty.clear()
        self._share()
        return _Session(stream, made, partial(self._drop, made))

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


class _Session:
    """One gateway's stream on its connection: hears what comes, and writes what goes. See `Events`."""

    def __init__(self, wire: Stream, stream: GatewayStream, drop: partial[None]) -> None:
        self._wire, self._stream, self._drop = wire, stream, drop
        wire.send_headers(RESPONSE)
        stream.open(self._write)
        self._ending = asyncio.ensure_future(stream.ended())
        self._ending.add_done_callback(self._end)

    def _write(self, parcel: Parcel[pb.ResultBundle]) -> "asyncio.Future[None] | None":
        self._wire.send(*pieces(parcel))
        return self._wire.drained() if self._wire.congested else None

    def headers(self, fields: Fields) -> None:
        """The request's headers say nothing of use here."""

    def message(self, data: bytes) -> None:
        """Takes a bundle of work."""
        try:
            bundle, large = read(data, pb.WorkBundle)
            if bundle.gateway:
                structlog.get_logger(__name__).info("gateway connected", gateway=bundle.gateway)
            self._stream.take(bundle, large)
        except DecodeError:
            self._fail(InvalidInput(f"expected a WorkBundle, got {len(data)} bytes that are none"))
        except Exception as error:  # a fault of ours must not look like the gateway's goodbye
            shown = status.public(error)
            structlog.get_logger(__name__).error("bundle was not taken", exc_info=error, **shown.metadata)
            self._fail(shown)

    def ended(self) -> None:
        """The gateway sends nothing more: what it has sent is answered."""
        self._stream.end()

    def lost(self, why: str) -> None:
        """The gateway has gone."""
        self._ending.cancel()
        self._drop()

    def _end(self, ending: "asyncio.Future[None]") -> None:
        if not ending.cancelled():
            error = ending.exception()
            self._close(trailers(grpc.StatusCode.OK) if error is None else _failed(status.public(error)))

    def _fail(self, error: MeshError) -> None:
        self._ending.cancel()
        self._close(_failed(error))

    def _close(self, end: tuple[tuple[bytes, bytes], ...]) -> None:
        self._drop()
        self._wire.finish(end)


def _failed(error: MeshError) -> tuple[tuple[bytes, bytes], ...]:
    return trailers(status.code_of(error), error.message)
