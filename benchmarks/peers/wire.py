"""How a peer is asked: a row of 64 float32 features by gRPC (Open Inference Protocol), as HTTP bytes or HTTP JSON."""

import http.client
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import grpc
import numpy as np
import numpy.typing as npt

from infermesh.oip.v2 import grpc_service_pb2 as oip

Array = npt.NDArray[np.float32]

METHOD = "/inference.GRPCInferenceService/ModelInfer"
BYTES, JSON = "application/octet-stream", "application/json"
CONNECTIONS = 8
"""HTTP/2 connections that calls in flight are spread over, if there are as many."""


class WireError(Exception):
    """A peer did not answer, or with something else than logits."""


class Wire(Protocol):
    """One way to ask."""

    def body(self, x: Array) -> bytes:
        """Returns the HTTP body that asks for the logits of x, [1, 64]."""

    def ask(self, address: str, x: Array, timeout: float) -> Array:
        """Returns a server's logits for x, [10]. Blocks for `timeout` seconds at most. Raises WireError."""

    def load(self, address: str, body: Path, in_flight: int) -> list[str]:
        """Returns h2load's arguments, all but the duration, that keep so many requests with that body in flight."""


@dataclass(frozen=True)
class Grpc:
    """ModelInfer of a deployment `mlp`, tensors as raw bytes: about 300 bytes."""

    def body(self, x: Array) -> bytes:
        message = self._request(x)
        return b"\0" + len(message).to_bytes(4, "big") + message

    def ask(self, address: str, x: Array, timeout: float) -> Array:
        try:
            with grpc.insecure_channel(address) as channel:
                answer = channel.unary_unary(METHOD)(self._request(x), timeout=timeout)
            response = oip.ModelInferResponse.FromString(answer)
        except (grpc.RpcError, ValueError) as error:
            raise WireError(str(error)) from error
        if response.raw_output_contents:
            return np.frombuffer(response.raw_output_contents[0], np.float32)
        return np.array(response.outputs[0].contents.fp32_contents, np.float32)

    def load(self, address: str, body: Path, in_flight: int) -> list[str]:
        connections = min(in_flight, CONNECTIONS)
        streams = in_flight // connections
        headers = ["-H", "content-type: application/grpc", "-H", "te: trailers"]
        return ["-c", str(connections), "-m", str(streams), "-d", str(body), *headers, f"http://{address}{METHOD}"]

    def _request(self, x: Array) -> bytes:
        message = oip.ModelInferRequest(model_name="mlp", raw_input_contents=[x.tobytes()])
        message.inputs.add(name="x", datatype="FP32", shape=x.shape)
        request: bytes = message.SerializeToString()
        return request


@dataclass(frozen=True)
class Http:
    """POST over HTTP/1.1, one connection for each request in flight. `encode` and `decode` are the body's format."""

    path: str
    content_type: str = BYTES
    encode: Callable[[Array], bytes] = lambda x: x.tobytes()
    decode: Callable[[bytes], Array] = lambda answer: np.frombuffer(answer, np.float32)

    def body(self, x: Array) -> bytes:
        return self.encode(x)

    def ask(self, address: str, x: Array, timeout: float) -> Array:
        connection = http.client.HTTPConnection(address, timeout=timeout)
        try:
            connection.request("POST", self.path, self.body(x), {"content-type": self.content_type})
            response = connection.getresponse()
            answer = response.read()
            if response.status != http.HTTPStatus.OK:
                raise WireError(f"status {response.status}: {answer[:200].decode(errors='replace')}")
            return self.decode(answer)
        except (OSError, http.client.HTTPException, ValueError, LookupError, TypeError) as error:
            raise WireError(f"{type(error).__name__}: {error}") from error
        finally:
            connection.close()

    def load(self, address: str, body: Path, in_flight: int) -> list[str]:
        header = f"content-type: {self.content_type}"
        return ["--h1", "-c", str(in_flight), "-m", "1", "-d", str(body), "-H", header, f"http://{address}{self.path}"]


def http_json(path: str, row: Callable[[list[float]], object], logits: Callable[[Any], object]) -> Http:
    """Returns JSON over HTTP: `row` wraps the features as the peer wants them, `logits` finds them in its answer."""
    return Http(
        path,
        JSON,
        lambda x: json.dumps(row([round(float(value), 3) for value in x[0]])).encode(),
        lambda answer: np.asarray(logits(json.loads(answer)), np.float32).reshape(-1),
    )
