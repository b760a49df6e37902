"""One call, one trace: the client's context comes in at the gateway, travels in the bundle, and goes out by OTLP."""

import threading
import time
from concurrent import futures

import grpc
import pytest
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as pb
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)

from infermesh.client import Client
from infermesh.oip.v2 import grpc_service_pb2 as oip
from tests.mesh.models import ROW, samples

TRACE = "0af7651916cd43dd8448eb211c80319c"
SPAN = "b7ad6b7169203331"


class Collector(TraceServiceServicer):
    """Keeps the spans that it is sent, with the name of the service that sent them."""

    def __init__(self):
        self._lock = threading.Lock()
        self._spans = []

    def Export(self, request, context):
        with self._lock:
            for group in request.resource_spans:
                names = [item.value.string_value for item in group.resource.attributes if item.key == "service.name"]
                self._spans += [(names[0], span) for scope in group.scope_spans for span in scope.spans]
        return pb.ExportTraceServiceResponse()

    def of_trace(self, trace):
        with self._lock:
            return [(service, span) for service, span in self._spans if span.trace_id.hex() == trace]


@pytest.fixture
def collector():
    """A collector and its address."""
    servicer = Collector()
    server = grpc.server(futures.ThreadPoolExecutor(2))
    add_TraceServiceServicer_to_server(servicer, server)
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    yield servicer, f"127.0.0.1:{port}"
    server.stop(None)


def test_one_call_is_one_trace(make_mesh, files, collector):
    servicer, address = collector
    telemetry = ["--telemetry-endpoint", address]
    mesh = make_mesh(workers=1, flags={room: telemetry for room in ("gateway", "worker")})
    with Client(mesh.gateway) as client:
        client.push("m", files.onnx(2), samples=samples(2))
        client.deploy("m", version=1)
    request = oip.ModelInferRequest(model_name="m", raw_input_contents=[ROW.tobytes()])
    request.inputs.add(name="x", datatype="FP32", shape=[1, 4])
    with grpc.insecure_channel(mesh.gateway) as channel:
        infer = channel.unary_unary(
            "/inference.GRPCInferenceService/ModelInfer",
            oip.ModelInferRequest.SerializeToString,
            oip.ModelInferResponse.FromString,
        )
        infer(request, timeout=20, metadata=[("traceparent", f"00-{TRACE}-{SPAN}-01"), ("tracestate", "vendor=1")])
    until = time.monotonic() + 30
    while {"gateway", "worker"} - {room_of(service) for service, _ in servicer.of_trace(TRACE)}:
        assert time.monotonic() < until, f"spans came from {servicer.of_trace(TRACE)}"
        time.sleep(0.1)
    spans = {room_of(service): span for service, span in servicer.of_trace(TRACE)}
    everyone = {span.span_id for _, span in servicer.of_trace(TRACE)} | {bytes.fromhex(SPAN)}
    assert all(span.parent_span_id in everyone for _, span in servicer.of_trace(TRACE)), "every span has its parent"
    assert spans["worker"].trace_state == "vendor=1"


def room_of(service):
    """Returns the room in a service's name, e.g. `infermesh-gateway`."""
    return service.split("-")[-1].split(".")[-1]
