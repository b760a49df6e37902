"""KServe's Python server: gRPC (Open Inference Protocol), no batching (its batcher is a sidecar written in Go)."""

import logging
import sys

from kserve import InferOutput, InferRequest, InferResponse, Model, ModelServer
from mlp import predict


class Mlp(Model):
    def load(self) -> bool:
        self.ready = True
        return self.ready

    async def predict(self, payload: InferRequest, headers=None, response_headers=None) -> InferResponse:
        logits = predict(payload.inputs[0].as_numpy())
        output = InferOutput("logits", list(logits.shape), "FP32")
        output.set_data_from_numpy(logits, binary_data=True)
        return InferResponse(payload.id, self.name, [output])


if __name__ == "__main__":
    model = Mlp("mlp")
    model.load()
    logging.disable(logging.INFO)  # a line for each request otherwise
    server = ModelServer(http_port=int(sys.argv[2]), grpc_port=int(sys.argv[1]), enable_latency_logging=False)
    server.start([model])
