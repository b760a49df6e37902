"""The models that the figures are about, and a call for each. They are made here, so that nothing need be fetched."""

from pathlib import Path

import numpy as np
import torch

from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import model_pb2, tensor_pb2


class Mlp(torch.nn.Module):
    """Two small layers: a call is all overhead."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns logits [n, 10] of x [n, 64]."""
        return {"logits": self.layers(x)}


def signature(inputs: tuple[str, list[int]], outputs: tuple[str, list[int]]) -> model_pb2.Signature:
    """Returns the signature of a float32 model with one input and one output, each (name, shape)."""
    first, last = (tensor_pb2.TensorSpec(name=n, datatype="FP32", shape=s) for n, s in (inputs, outputs))
    return model_pb2.Signature(inputs=[first], outputs=[last])


def export(model: torch.nn.Module, sample: torch.Tensor, path: Path) -> None:
    """Writes a model whose only argument is `x`, for any number of rows."""
    batch = torch.export.Dim("batch", min=1, max=1024)
    torch.export.save(torch.export.export(model.eval(), (sample,), dynamic_shapes={"x": {0: batch}}), path)


def call(deployment: str, array: np.ndarray) -> bytes:
    """Returns an inference call with one float32 input `x`."""
    message = oip.ModelInferRequest(model_name=deployment, raw_input_contents=[array.tobytes()])
    message.inputs.add(name="x", datatype="FP32", shape=array.shape)
    return bytes(message.SerializeToString())
