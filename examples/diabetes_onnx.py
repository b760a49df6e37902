"""Two ONNX regressions on scikit-learn's diabetes data, side by side behind one name.

Version 1 knows the body-mass index only, version 2 all ten measurements. 20 % of the calls go to version 2 first; then
the alias `prod` moves to it, and the deployment follows. Needs onnx and scikit-learn. Run `infermesh up` first.
"""

import os
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper
from sklearn.datasets import load_diabetes
from sklearn.linear_model import LinearRegression

from infermesh.client import Client

ADDRESS = os.environ.get("INFERMESH_ADDRESS", "127.0.0.1:8080")


def regression(known: np.ndarray, target: np.ndarray, columns: list[int]) -> onnx.ModelProto:
    """Returns a linear regression that looks at some of the columns."""
    fitted = LinearRegression().fit(known[:, columns], target)
    weights = np.zeros((known.shape[1], 1), np.float32)
    weights[columns, 0] = fitted.coef_
    graph = helper.make_graph(
        [helper.make_node("Gemm", ["patient", "weights", "bias"], ["progression"])],
        "regression",
        [helper.make_tensor_value_info("patient", TensorProto.FLOAT, ["batch", known.shape[1]])],
        [helper.make_tensor_value_info("progression", TensorProto.FLOAT, ["batch", 1])],
        [
            numpy_helper.from_array(weights, "weights"),
            numpy_helper.from_array(np.array([fitted.intercept_], np.float32), "bias"),
        ],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def main() -> None:
    """Pushes both, splits the traffic, then moves it."""
    data, target = load_diabetes(return_X_y=True)
    data = data.astype(np.float32)
    known, unknown, truth = data[:300], data[300:], target[300:]

    with tempfile.TemporaryDirectory() as folder, Client(ADDRESS) as client:
        numbers = []
        for columns in ([2], list(range(10))):
            file = Path(folder) / "regression.onnx"
            onnx.save(regression(known, target[:300], columns), file)
            numbers.append(client.push("diabetes", file).name.rpartition("/")[2])
        old, new = numbers

        client.deploy("diabetes", traffic={old: 80, new: 20})
        calls = [client.infer_async("diabetes", {"patient": row[None]}) for row in unknown]
        shares = Counter(call.result().version for call in calls)
        print("calls by version:", dict(shares))
        for version in numbers:
            got = client.infer("diabetes", {"patient": unknown[:64]}, version=version)["progression"][:, 0]
            print(f"version {version} is off by {np.abs(got - truth[:64]).mean():.0f} on average")

        client.set_alias("diabetes", "prod", old)
        client.deploy("diabetes", version="prod")
        client.set_alias("diabetes", "prod", new, expected=old)
        deployment = client.deploy("diabetes")  # waits until the deployment has followed
        print("prod is version", client.infer("diabetes", {"patient": unknown[:1]}).version, "of", deployment.name)


if __name__ == "__main__":
    main()
