"""mosec: its Rust front and one Python worker, float32 bytes in and out, dynamic batching."""

import os
import sys

import numpy as np
import numpy.typing as npt
from mlp import predict
from mosec import Server, Worker


class Mlp(Worker):
    def deserialize(self, data: bytes) -> npt.NDArray[np.float32]:
        return np.frombuffer(data, np.float32)

    def forward(self, data: list[npt.NDArray[np.float32]]) -> list[npt.NDArray[np.float32]]:
        return list(predict(np.stack(data)))

    def serialize(self, data: npt.NDArray[np.float32]) -> bytes:
        return data.tobytes()


if __name__ == "__main__":
    os.environ.update(MOSEC_ADDRESS="127.0.0.1", MOSEC_PORT=sys.argv[1], MOSEC_LOG_LEVEL="warning")
    server = Server()
    server.append_worker(Mlp, num=1, max_batch_size=64, max_wait_time=1)
    server.run()
