"""Pushes the class beside this file and calls it. Run `infermesh up --allow-python` first."""

import os
from pathlib import Path

import numpy as np

from infermesh.client import Client, signature

ADDRESS = os.environ.get("INFERMESH_ADDRESS", "127.0.0.1:8080")
HERE = Path(__file__).parent
TEXT = ["A version is an immutable set of files", "and aliases move"]


def main() -> None:
    """Pushes, deploys and calls the model."""
    with Client(ADDRESS) as client:
        files = {name: HERE / name for name in ("model.py", "stop_words.txt")}
        # Python code does not say what it takes and gives, so we do
        tensors = signature(
            inputs={"text": ("BYTES", [-1, 1])}, outputs={"count": ("INT64", [-1, 1]), "longest": ("BYTES", [-1, 1])}
        )
        version = client.push("words", files, backend="python", signature=tensors, max_batch_size=32)
        client.deploy("words", version=version.name.rpartition("/")[2])
        result = client.infer("words", {"text": np.array(TEXT, dtype=object).reshape(-1, 1)})
        for line, count, longest in zip(TEXT, result["count"][:, 0], result["longest"][:, 0], strict=True):
            print(f"{line!r}: {count} words, the longest is {longest.decode()!r}")


if __name__ == "__main__":
    main()
