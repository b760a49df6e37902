"""The models that the figures are about. They are made here with random weights, so that nothing need be fetched."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from infermesh.client.inference import decode_response, encode_request
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.tensors import Array, datatype_of
from infermesh.v1 import model_pb2, tensor_pb2

VOCABULARY = 30_522
LENGTH = 32
"""Tokens of a row of the encoder's."""


class Mlp(torch.nn.Module):
    """Two small layers: a call is all overhead."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = torch.nn.Sequential(torch.nn.Linear(64, 128), torch.nn.ReLU(), torch.nn.Linear(128, 10))

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns logits [n, 10] of x [n, 64]."""
        return {"y": self.layers(x)}


class Scale(torch.nn.Module):
    """Reads and writes every number and does nothing else: a call is all bytes."""

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns twice x [n, k]."""
        return {"y": x * 2}


class Layer(torch.nn.Module):
    """One layer of BERT: attention and a feed-forward part, each added to its input and normalised afterwards."""

    def __init__(self, hidden: int, heads: int) -> None:
        super().__init__()
        self.heads = heads
        self.qkv = torch.nn.Linear(hidden, 3 * hidden)
        self.out = torch.nn.Linear(hidden, hidden)
        self.up, self.down = torch.nn.Linear(hidden, 4 * hidden), torch.nn.Linear(4 * hidden, hidden)
        self.norms = torch.nn.ModuleList([torch.nn.LayerNorm(hidden), torch.nn.LayerNorm(hidden)])

    def forward(self, h: torch.Tensor) -> torch.Tensor:
        """Returns [n, length, hidden] of the same."""
        parts = (part.unflatten(-1, (self.heads, -1)).transpose(1, 2) for part in self.qkv(h).chunk(3, dim=-1))
        mixed = functional.scaled_dot_product_attention(*parts).transpose(1, 2).flatten(2)
        h = self.norms[0](h + self.out(mixed))
        out: torch.Tensor = self.norms[1](h + self.down(functional.gelu(self.up(h))))
        return out


class Encoder(torch.nn.Module):
    """A sentence encoder of MiniLM's size: 6 layers, hidden 384, 12 heads."""

    def __init__(self, layers: int = 6, hidden: int = 384, heads: int = 12) -> None:
        super().__init__()
        self.tokens = torch.nn.Embedding(VOCABULARY, hidden)
        self.places = torch.nn.Parameter(torch.randn(LENGTH, hidden))
        self.layers = torch.nn.ModuleList([Layer(hidden, heads) for _ in range(layers)])

    def forward(self, x: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns embeddings [n, 384] of token ids x [n, 32]."""
        h = self.tokens(x) + self.places
        for layer in self.layers:
            h = layer(h)
        return {"y": h.mean(dim=1)}


@dataclass(frozen=True)
class Served:
    """A model as it is deployed: its input `x` and its output `y`, and a row of input that the load sends."""

    name: str
    module: torch.nn.Module
    row: Array
    max_batch_size: int = 128

    def export(self, path: Path) -> None:
        """Writes the model, for any number of rows."""
        batch = torch.export.Dim("batch", min=1, max=1024)
        sample = torch.from_numpy(np.repeat(self.row, 2, axis=0))
        program = torch.export.export(self.module.eval(), (sample,), dynamic_shapes={"x": {0: batch}})
        torch.export.save(program, path)

    def signature(self) -> model_pb2.Signature:
        """Returns the names, datatypes and shapes of its tensors."""
        outputs = {name: array.shape[1:] for name, array in self.expected().items()}
        return model_pb2.Signature(
            inputs=[tensor_pb2.TensorSpec(name="x", datatype=datatype_of(self.row), shape=[-1, *self.row.shape[1:]])],
            outputs=[tensor_pb2.TensorSpec(name=n, datatype="FP32", shape=[-1, *s]) for n, s in outputs.items()],
        )

    def expected(self) -> Mapping[str, Array]:
        """Returns what the model makes of its row."""
        with torch.inference_mode():
            return {name: y.numpy() for name, y in self.module.eval()(torch.from_numpy(self.row)).items()}

    def request(self) -> bytes:
        """Returns an inference call with its row."""
        return bytes(encode_request(self.name, {"x": self.row}).SerializeToString())

    def check(self, answer: bytes) -> None:
        """Raises ValueError for an answer that is not the model's."""
        found = decode_response(oip.ModelInferResponse.FromString(answer))
        for name, array in self.expected().items():
            if not np.allclose(found[name], array, atol=1e-3):
                raise ValueError(f"{self.name}: {name} is {found[name]}, expected {array}")


def mlp() -> Served:
    """Returns the 64-128-10 MLP; a call has about 300 bytes."""
    torch.manual_seed(0)
    return Served("mlp", Mlp(), np.linspace(-1, 1, 64, dtype=np.float32)[None])


def tensor() -> Served:
    """Returns a model of 600 KB in and 600 KB out."""
    return Served("tensor", Scale(), np.linspace(-1, 1, 150_000, dtype=np.float32)[None], max_batch_size=16)


def encoder() -> Served:
    """Returns the encoder; its row is 32 token ids."""
    torch.manual_seed(0)
    row = np.random.default_rng(0).integers(0, VOCABULARY, (1, LENGTH))
    return Served("encoder", Encoder(), row, max_batch_size=64)
