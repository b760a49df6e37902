"""Token streams that can be checked: a deployment of the token engine, its requests, and what must come back.

Every token is numbered, so that one that is lost, doubled or out of order shows.
"""

import json
import tempfile
from pathlib import Path
from typing import Any

import numpy as np

from infermesh.client import Client, signature
from infermesh.testing import token_engine

_INPUTS = {"stream": ("INT64", [1]), "start": ("INT64", [1]), "count": ("INT64", [1])}
_OUTPUTS = {"stream": ("INT64", [-1]), "token": ("INT64", [-1])}


def push_tokens(client: Client, model: str, *, step: float = 0.02, slots: int = 256) -> str:
    """Pushes the token engine as a version of a model, and returns the version's number.

    `step` is the seconds between two tokens of a request, `slots` the most requests at once. The workers need
    `--allow-python`.
    """
    with tempfile.TemporaryDirectory() as folder:
        settings = Path(folder, "engine.json")
        settings.write_text(json.dumps({"step": step, "slots": slots}))
        files = {"model.py": Path(token_engine.__file__), "engine.json": settings}
        tensors = signature(inputs=_INPUTS, outputs=_OUTPUTS)
        sample = {"stream": np.full(3, 7), "token": np.arange(4, 7)}
        version = client.push(
            model,
            files,
            backend="python",
            signature=tensors,
            decoupled=True,
            samples=[(token_request(7, 3, start=4), sample)],
        )
    return version.name.rpartition("/")[2]


def token_request(stream: int, count: int, start: int = 0) -> dict[str, Any]:
    """Returns the inputs of a request for tokens `start` to `start + count - 1`; `stream` comes back with each."""
    values = {"stream": stream, "start": start, "count": count}
    return {name: np.array([value], np.int64) for name, value in values.items()}
