"""BentoML: two workers, JSON in and out (what its client sends for arrays), adaptive batching."""

import os
import sys
from pathlib import Path

import bentoml
import numpy as np
import numpy.typing as npt
from mlp import predict


@bentoml.service(workers=2)
class Mlp:
    @bentoml.api(batchable=True, max_batch_size=64)
    async def predict(self, x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        return predict(np.asarray(x, np.float32))


if __name__ == "__main__":
    folder = Path(__file__).parent
    command = ["serve", "serve:Mlp", "--working-dir", str(folder), "--host", "127.0.0.1", "--port", sys.argv[1]]
    os.execvp("bentoml", ["bentoml", *command])
