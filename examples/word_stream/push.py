"""Pushes the class beside this file as a decoupled version and reads its stream. Run `infermesh up --allow-python`."""

import os
from pathlib import Path

import numpy as np

from infermesh.client import Client, signature

ADDRESS = os.environ.get("INFERMESH_ADDRESS", "127.0.0.1:8080")
TEXT = "streams are several results with one id"


def main() -> None:
    """Pushes, deploys and streams."""
    with Client(ADDRESS) as client:
        tensors = signature(inputs={"text": ("BYTES", [1])}, outputs={"word": ("BYTES", [-1])})
        text = np.array([TEXT], dtype=object)
        # what all responses give, one after the other: checked on every worker before the version gets a call
        sample = ({"text": text}, {"word": np.array(TEXT.split(), dtype=object)})
        version = client.push(
            "streamer",
            Path(__file__).with_name("model.py"),
            backend="python",
            signature=tensors,
            decoupled=True,
            samples=[sample],
        )
        client.deploy("streamer", version=version.name.rpartition("/")[2])
        for number, result in enumerate(client.infer_stream("streamer", {"text": text})):
            print(number, result["word"][0].decode())


if __name__ == "__main__":
    main()
