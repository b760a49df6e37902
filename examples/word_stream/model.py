"""A model that answers word by word: every `yield` is a response of its own, and leaves at once."""

from collections.abc import Iterator

import numpy as np


class Model:
    """Says a text again, a word at a time; the requests under way take turns."""

    def infer(self, inputs: dict[str, np.ndarray]) -> Iterator[dict[str, np.ndarray]]:
        """Called with one request. A caller who leaves closes the generator."""
        for word in inputs["text"][0].decode().split():
            yield {"word": np.array([word.encode()], dtype=object)}
