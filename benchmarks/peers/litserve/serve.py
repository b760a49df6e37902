"""LitServe: two HTTP processes before one of the model, JSON in and out (its default), dynamic batching."""

import sys
from typing import Any

import litserve
import numpy as np
import numpy.typing as npt
from mlp import predict

Array = npt.NDArray[np.float32]


class Mlp(litserve.LitAPI):
    def setup(self, device: str) -> None:
        """Nothing to load: the weights come with the module."""

    def decode_request(self, request: dict[str, Any]) -> Array:
        return np.asarray(request["x"], np.float32)

    def batch(self, inputs: list[Array]) -> Array:
        return np.stack(inputs)

    def predict(self, x: Array) -> Array:
        return predict(x)

    def unbatch(self, output: Array) -> list[Array]:
        return list(output)

    def encode_response(self, output: Array) -> dict[str, Any]:
        return {"logits": output.tolist()}


if __name__ == "__main__":
    api = Mlp(max_batch_size=64, batch_timeout=0.001)
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    address = {"host": "127.0.0.1", "port": int(sys.argv[1])}
    server.run(**address, num_api_servers=2, generate_client_file=False, log_level="warning")
