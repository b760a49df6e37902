"""A model that is a Python class: it runs in a runner process of a worker that was started with `--allow-python`."""

import numpy as np


class Model:
    """Splits lines of text into words and counts them."""

    def load(self, folder: str) -> None:
        """Called once, with the folder that holds the version's files."""
        with open(f"{folder}/stop_words.txt", encoding="utf-8") as file:
            self.stop_words = set(file.read().split())

    def infer(self, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Called with a whole batch. A ValueError refuses the input; anything else is a fault of the model."""
        lines = [line.decode() for line in inputs["text"].reshape(-1)]
        words = [[word for word in line.lower().split() if word not in self.stop_words] for line in lines]
        longest = [max(row, key=len, default="").encode() for row in words]
        return {
            "count": np.array([[len(row)] for row in words], dtype=np.int64),
            "longest": np.array(longest, dtype=object).reshape(-1, 1),
        }
