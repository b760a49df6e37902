"""One model, an MLP 6→8→3 with recorded weights, as each backend takes it. Used by the contract tests of backends."""

from pathlib import Path
from typing import Any

import numpy as np

from infermesh.tensors import encode
from infermesh.v1 import model_pb2

FORMS = ("python", "onnx", "pt2", "torchscript")
"""Every form in which the model can be written."""

PYTHON_SOURCE = """
import numpy as np

class Model:
    def load(self, folder):
        weights = np.load(f"{folder}/weights.npz")
        self.a, self.b, self.c, self.d = (weights[name] for name in "abcd")

    def infer(self, inputs):
        x = inputs["x"]
        if np.isnan(x).any():
            raise ValueError("NaN is not a feature")
        hidden = np.maximum(x @ self.a + self.b, 0)
        return {"scores": hidden @ self.c + self.d, "best": (hidden @ self.c + self.d).argmax(1)}
"""


def weights() -> dict[str, Any]:
    """Returns the weights: the same each time."""
    random = np.random.default_rng(7)
    shapes = {"a": (6, 8), "b": (8,), "c": (8, 3), "d": (3,)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def features(rows: int) -> Any:
    """Returns inputs: the same each time."""
    return np.random.default_rng(rows).normal(size=(rows, 6)).astype(np.float32)


def expected(x: Any) -> dict[str, Any]:
    """Returns what the model gives, computed with numpy."""
    w = weights()
    scores = np.maximum(x @ w["a"] + w["b"], 0) @ w["c"] + w["d"]
    return {"scores": scores, "best": scores.argmax(1)}


def version(form: str, *, max_batch_size: int = 32) -> model_pb2.ModelVersion:
    """Returns the version's description."""
    backend = {"pt2": "torch", "torchscript": "torch"}.get(form, form)
    described = model_pb2.ModelVersion(
        name="models/mlp/versions/1", backend=backend, max_batch_size=max_batch_size, options={"class": "mlp:Model"}
    )
    described.signature.inputs.add(name="x", datatype="FP32", shape=[-1, 6])
    described.signature.outputs.add(name="scores", datatype="FP32", shape=[-1, 3])
    described.signature.outputs.add(name="best", datatype="INT64", shape=[-1])
    if backend != "python":
        del described.options["class"]
    return described


def add_sample(described: model_pb2.ModelVersion, *, off_by: float = 0.0) -> None:
    """Adds a golden sample of two rows; `off_by` falsifies its last score."""
    x = features(2)
    outputs = expected(x)
    outputs["scores"][1, 2] += off_by
    sample = described.samples.add()
    sample.inputs.add(name="x", datatype="FP32", shape=x.shape, data=encode(x))
    for name, datatype in (("scores", "FP32"), ("best", "INT64")):
        sample.outputs.add(name=name, datatype=datatype, shape=outputs[name].shape, data=encode(outputs[name]))


def write(form: str, folder: Path) -> None:
    """Writes the files of a form into a folder."""
    {"python": _write_python, "onnx": _write_onnx, "pt2": _write_pt2, "torchscript": _write_torchscript}[form](folder)


def _write_python(folder: Path) -> None:
    np.savez(folder / "weights.npz", **weights())
    (folder / "mlp.py").write_text(PYTHON_SOURCE)


def _write_onnx(folder: Path) -> None:
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    nodes = [
        helper.make_node("Gemm", ["x", "a", "b"], ["h"]),
        helper.make_node("Relu", ["h"], ["r"]),
        helper.make_node("Gemm", ["r", "c", "d"], ["scores"]),
        helper.make_node("ArgMax", ["scores"], ["best"], axis=1, keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "mlp",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["batch", 6])],
        [
            helper.make_tensor_value_info("scores", TensorProto.FLOAT, ["batch", 3]),
            helper.make_tensor_value_info("best", TensorProto.INT64, ["batch"]),
        ],
        [numpy_helper.from_array(array, name) for name, array in weights().items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
    onnx.save(model, folder / "model.onnx")


def torch_module() -> Any:
    """Returns the model as a torch module."""
    import torch

    class Mlp(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            for name, array in weights().items():
                self.register_parameter(name, torch.nn.Parameter(torch.from_numpy(array)))

        def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
            a, b, c, d = self.parameters()
            scores = torch.relu(x @ a + b) @ c + d
            return scores, scores.argmax(1)

    return Mlp().eval()


def export(module: Any, path: Path, inputs: tuple[Any, ...], dynamic_shapes: Any) -> None:
    """Writes a module as `.pt2`."""
    import torch

    torch.export.save(torch.export.export(module, inputs, dynamic_shapes=dynamic_shapes), path)


def _write_pt2(folder: Path) -> None:
    import torch

    batch = torch.export.Dim("batch")
    export(torch_module(), folder / "model.pt2", (torch.zeros(4, 6),), {"x": {0: batch}})


def _write_torchscript(folder: Path) -> None:
    import torch

    torch.jit.trace(torch_module(), torch.zeros(4, 6)).save(  # type: ignore[no-untyped-call]
        str(folder / "model.pt")
    )
