"""MLServer: gRPC (Open Inference Protocol), inference in the server's own process, no batching."""

import json
import os
import sys
from pathlib import Path

import numpy as np
from mlp import predict
from mlserver import MLModel
from mlserver.codecs import NumpyCodec
from mlserver.types import InferenceRequest, InferenceResponse


class Mlp(MLModel):
    async def load(self) -> bool:
        return True

    async def predict(self, payload: InferenceRequest) -> InferenceResponse:
        x = np.asarray(NumpyCodec.decode_input(payload.inputs[0]), np.float32)
        return InferenceResponse(model_name=self.name, outputs=[NumpyCodec.encode_output("logits", predict(x))])


if __name__ == "__main__":
    grpc_port, http_port, metrics_port = map(int, sys.argv[1:4])
    ports = {"host": "127.0.0.1", "grpc_port": grpc_port, "http_port": http_port, "metrics_port": metrics_port}
    Path("settings.json").write_text(json.dumps({**ports, "parallel_workers": 0, "debug": False}))
    model = {"name": "mlp", "implementation": "serve.Mlp"}
    Path("model-settings.json").write_text(json.dumps(model))
    os.environ["PYTHONPATH"] += os.pathsep + str(Path(__file__).parent)
    os.execvp("mlserver", ["mlserver", "start", "."])
