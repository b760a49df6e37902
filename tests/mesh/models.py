"""Models for the mesh tests, as small as models can be: y = scale * x + 1, for four numbers a row.

The scale tells by the answer which version gave it.
"""

from pathlib import Path

import numpy as np

from infermesh.client import signature

WIDTH = 4
ROW = np.arange(WIDTH, dtype=np.float32)[None]


def answer(rows, scale):
    """What a model of that scale answers."""
    return {"y": rows * np.float32(scale) + np.float32(1)}


def samples(scale):
    """One golden sample of two rows."""
    rows = np.stack([ROW[0], ROW[0] + 10])
    return [({"x": rows}, answer(rows, scale))]


def torch_file(folder: Path, scale: float) -> Path:
    """Writes an exported program (.pt2) and returns its path."""
    import torch

    class Affine(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.scale = torch.nn.Parameter(torch.tensor(float(scale)))

        def forward(self, x):
            return {"y": x * self.scale + 1}

    batch = torch.export.Dim("batch", min=1, max=1024)
    path = folder / f"affine-{scale:g}.pt2"
    program = torch.export.export(Affine().eval(), (torch.zeros(2, WIDTH),), dynamic_shapes={"x": {0: batch}})
    torch.export.save(program, path)
    return path


def onnx_file(folder: Path, scale: float, ballast: int = 0) -> Path:
    """Writes an ONNX model and returns its path; `ballast` adds so many bytes of idle weights."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    weights = [
        numpy_helper.from_array(np.array(scale, np.float32), "scale"),
        numpy_helper.from_array(np.array(1, np.float32), "one"),
    ]
    nodes = [helper.make_node("Mul", ["x", "scale"], ["scaled"]), helper.make_node("Add", ["scaled", "one"], ["sum"])]
    if ballast:
        block = np.random.default_rng(0).random(ballast // 4, np.float32)
        weights.append(numpy_helper.from_array(block, "ballast"))
        nodes += [
            helper.make_node("ReduceMin", ["ballast"], ["least"], keepdims=0),
            helper.make_node("Floor", ["least"], ["nothing"]),  # all of it lies in [0, 1)
            helper.make_node("Add", ["sum", "nothing"], ["y"]),
        ]
    else:
        nodes.append(helper.make_node("Identity", ["sum"], ["y"]))
    shape = ["batch", WIDTH]
    graph = helper.make_graph(
        nodes,
        "affine",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, shape)],
        weights,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    path = folder / f"affine-{scale:g}{'-heavy' if ballast else ''}.onnx"
    onnx.save(model, path)
    return path


def python_file(folder: Path, scale: float, seconds: float) -> Path:
    """Writes a model that takes `seconds` for each batch, whatever its size, and no processor; returns its path.

    Push it with `backend="python"` and `SIGNATURE`, to workers that were started with `--allow-python`.
    """
    path = folder / "model.py"
    path.write_text(
        "import time\n\n\nclass Model:\n    def infer(self, inputs):\n"
        f"        time.sleep({seconds})\n        return {{'y': inputs['x'] * {scale} + 1}}\n"
    )
    return path


SIGNATURE = signature(inputs={"x": ("FP32", [-1, WIDTH])}, outputs={"y": ("FP32", [-1, WIDTH])})
