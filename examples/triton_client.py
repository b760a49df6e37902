"""The same deployment by NVIDIA's client, unmodified: `pip install tritonclient[grpc]`. Run `wine_torch.py` first."""

import os

import numpy as np
import tritonclient.grpc as triton

ADDRESS = os.environ.get("INFERMESH_ADDRESS", "127.0.0.1:8080")

with triton.InferenceServerClient(ADDRESS) as client:
    row = np.full((1, 13), 10, np.float32)
    tensor = triton.InferInput("wine", row.shape, "FP32")
    tensor.set_data_from_numpy(row)
    answer = client.infer("wine", [tensor])
    print("version", answer.get_response().model_version, "scores", answer.as_numpy("scores"))
