"""PyTriton: Triton's gRPC front, one Python instance, dynamic batching."""

import os
import sys
import sysconfig
from pathlib import Path

import numpy as np
import numpy.typing as npt
from mlp import CLASSES, FEATURES, predict
from pytriton.decorators import batch
from pytriton.model_config import DynamicBatcher, ModelConfig, Tensor
from pytriton.triton import Triton, TritonConfig


@batch
def infer(x: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.float32]]:
    return {"logits": predict(x)}


if __name__ == "__main__":
    grpc_port, http_port = map(int, sys.argv[1:3])
    ports = TritonConfig(grpc_port=grpc_port, http_port=http_port, allow_metrics=False)
    # Triton's Python processes load libpython: that of another patch release does not fit this standard library
    os.environ["LD_LIBRARY_PATH"] = sysconfig.get_config_var("LIBDIR")
    with Triton(config=ports, workspace=Path("workspace").absolute()) as triton:
        triton.bind(
            "mlp",
            infer_func=infer,
            inputs=[Tensor(name="x", dtype=np.float32, shape=(FEATURES,))],
            outputs=[Tensor(name="logits", dtype=np.float32, shape=(CLASSES,))],
            config=ModelConfig(max_batch_size=128, batcher=DynamicBatcher(max_queue_delay_microseconds=1000)),
        )
        triton.serve()
