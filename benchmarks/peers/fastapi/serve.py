"""Bare FastAPI on uvicorn: two processes, float32 bytes in and out, no batching (it offers none)."""

import sys

import numpy as np
import uvicorn
from fastapi import FastAPI, Request, Response
from mlp import FEATURES, predict

app = FastAPI()


@app.post("/predict")
async def answer(request: Request) -> Response:
    x = np.frombuffer(await request.body(), np.float32).reshape(-1, FEATURES)
    return Response(predict(x).tobytes(), media_type="application/octet-stream")


if __name__ == "__main__":
    uvicorn.run("serve:app", port=int(sys.argv[1]), workers=2, access_log=False, log_level="warning")
