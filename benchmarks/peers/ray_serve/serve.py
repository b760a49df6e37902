"""Ray Serve: one HTTP proxy and two replicas, float32 bytes in and out, `serve.batch`."""

import sys
import time
from pathlib import Path

import numpy as np
import ray
from mlp import predict
from ray import serve
from starlette.requests import Request
from starlette.responses import Response


@serve.deployment(num_replicas=2, max_ongoing_requests=512, ray_actor_options={"num_cpus": 0})
class Mlp:
    @serve.batch(max_batch_size=64, batch_wait_timeout_s=0.001)
    async def batched(self, bodies: list[bytes]) -> list[bytes]:
        x = np.frombuffer(b"".join(bodies), np.float32).reshape(len(bodies), -1)
        return [row.tobytes() for row in predict(x)]

    async def __call__(self, request: Request) -> Response:
        return Response(await self.batched(await request.body()), media_type="application/octet-stream")


if __name__ == "__main__":
    ray.init(num_cpus=2, include_dashboard=False, log_to_driver=False, _temp_dir=str(Path("ray").absolute()))
    serve.start(http_options={"host": "127.0.0.1", "port": int(sys.argv[1])})
    serve.run(Mlp.bind(), route_prefix="/predict")
    while True:
        time.sleep(60)
