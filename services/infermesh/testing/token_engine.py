"""A model that gives tokens to many requests at once, step by step: stands in for a language model in tests.

This file is the model: `tokens.push_tokens` pushes it as it is, and it runs in a worker with `--allow-python`.
"""

import json
import time
from pathlib import Path
from typing import Any

import numpy as np


class Model:
    """The engine. A step takes the time that `engine.json` says, however many requests are under way."""

    def __init__(self) -> None:
        self.slots = 1
        self._pause = 0.0
        self._running: list[int] = []
        self._states = np.empty((0, 3), np.int64)  # of each: stream, number of the next token, and of the one after all
        self._due = 0.0

    def load(self, folder: str) -> None:
        """Reads the settings: most requests at once, and seconds of a step."""
        settings = json.loads(Path(folder, "engine.json").read_text())
        self.slots, self._pause = int(settings["slots"]), float(settings["step"])

    def add(self, sequence: int, inputs: dict[str, Any]) -> None:
        """Takes up a request; one for less than a token is refused."""
        stream, start, count = (int(inputs[name][0]) for name in ("stream", "start", "count"))
        if count < 1:
            raise ValueError(f"count: expected 1 or more, got {count}")
        self._running.append(sequence)
        self._states = np.vstack((self._states, (stream, start, start + count)))

    def step(self) -> list[tuple[list[int], dict[str, Any], list[int]]]:
        """Gives every request its next token."""
        time.sleep(max(0.0, self._due - time.monotonic()))
        self._due = time.monotonic() + self._pause
        sequences, states = self._running, self._states
        outputs = {"stream": states[:, 0:1].copy(), "token": states[:, 1:2].copy()}
        states[:, 1] += 1
        finished = [sequences[at] for at in np.flatnonzero(states[:, 1] == states[:, 2])]
        if finished:
            self._keep(states[:, 1] < states[:, 2])
        return [(sequences, outputs, finished)]

    def cancel(self, sequence: int) -> None:
        """Forgets a request."""
        self._keep(np.array(self._running) != sequence)

    def _keep(self, wanted: Any) -> None:
        self._running = [self._running[at] for at in np.flatnonzero(wanted)]
        self._states = self._states[wanted]
