"""The worker and, with a socket as its argument, the runner. The worker prints its address and serves until its
standard input closes."""

import asyncio
import socket
import struct
import subprocess
import sys

import grpc.aio
import numpy as np
import torch
import uvloop

from benchmarks.models import mlp
from benchmarks.prototype.gateway import METHOD
from infermesh.oip.v2.grpc_service_pb2 import ModelInferRequest, ModelInferResponse
from infermesh.v1.worker_service_pb2 import ResultBundle, WorkBundle

_SIZE = struct.Struct("<I")
_ROW = 10 * 4
"""Bytes of a row of logits."""


class Runner:
    """The model in a process of its own, one batch at a time."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader, self._writer = reader, writer
        self._turn = asyncio.Lock()

    async def __call__(self, rows: bytes) -> bytes:
        """Returns the logits of rows."""
        async with self._turn:
            self._writer.write(_SIZE.pack(len(rows)) + rows)
            (size,) = _SIZE.unpack(await self._reader.readexactly(_SIZE.size))
            return await self._reader.readexactly(size)


class Serve(grpc.GenericRpcHandler):
    """Executes each bundle as one batch."""

    def __init__(self, runner: Runner) -> None:
        self._runner = runner

    def service(self, details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler | None:
        """Serves the one method."""
        return grpc.stream_stream_rpc_method_handler(self._serve) if details.method == METHOD else None

    async def _serve(self, _: object, context: grpc.aio.ServicerContext) -> None:
        while (data := await context.read()) is not grpc.aio.EOF:
            await context.write(await self._execute(WorkBundle.FromString(data)))

    async def _execute(self, bundle: WorkBundle) -> bytes:
        requests = [ModelInferRequest.FromString(item.payload) for item in bundle.items]
        logits = await self._runner(b"".join(request.raw_input_contents[0] for request in requests))
        results = ResultBundle()
        for place, (item, request) in enumerate(zip(bundle.items, requests, strict=True)):
            response = ModelInferResponse(model_name=request.model_name, model_version="1", id=request.id)
            response.outputs.add(name="y", datatype="FP32", shape=[1, 10])
            response.raw_output_contents.append(logits[place * _ROW : (place + 1) * _ROW])
            results.results.add(id=item.id, payload=response.SerializeToString(), final=True)
        return results.SerializeToString()


async def work(runner: socket.socket) -> None:
    """Runs the worker until its standard input closes."""
    server = grpc.aio.server(options=[("grpc.max_receive_message_length", -1)])
    server.add_generic_rpc_handlers((Serve(Runner(*await asyncio.open_connection(sock=runner, limit=1 << 24))),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(f"127.0.0.1:{port}", flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await server.stop(None)


def run(channel: socket.socket) -> None:
    """Runs the model on what comes through a socket, until it closes."""
    torch.set_num_threads(1)
    module, stream = mlp().module.eval(), channel.makefile("rwb")
    with torch.inference_mode():
        while head := stream.read(_SIZE.size):
            rows = bytearray(stream.read(*_SIZE.unpack(head)))
            x = torch.from_numpy(np.frombuffer(rows, np.float32).reshape(-1, 64))
            logits = module(x)["y"].numpy().tobytes()
            stream.write(_SIZE.pack(len(logits)) + logits)
            stream.flush()


if __name__ == "__main__":
    if len(sys.argv) > 1:
        run(socket.socket(fileno=int(sys.argv[1])))
    else:
        ours, its = socket.socketpair()
        with its:
            child = subprocess.Popen([sys.executable, "-m", __spec__.name, str(its.fileno())], pass_fds=[its.fileno()])
        with ours:
            uvloop.run(work(ours))
        child.wait()
