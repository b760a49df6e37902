"""A model repository and the machines that run its models, in a few calls. Run `wine_torch.py` first."""

import os

import numpy as np

from infermesh.client import ModelService

ADDRESS = os.environ.get("INFERMESH_ADDRESS", "127.0.0.1:8080")

s = ModelService()
s.connect_repository(ADDRESS)
s.connect_resource(ADDRESS)
m = s.load_model("wine")
s.allocate_resource(m)
x = np.full((1, 13), 10, np.float32)
print("scores", s.predict(x))
s.close()
