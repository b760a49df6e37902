"""The demo's data: scikit-learn's 1,797 handwritten digits, 8 by 8 pixels of 0 to 16."""

from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Images = NDArray[np.float32]
Labels = NDArray[np.int64]

SIDE: Final = 8
PIXELS: Final = SIDE * SIDE
HELD_OUT: Final = 500


@dataclass(frozen=True)
class Digits:
    """Images of shape (n, 64), 0 to 1, with their labels; those to learn from and those held out."""

    images: Images
    labels: Labels
    held_out_images: Images
    held_out_labels: Labels


def load(seed: int) -> Digits:
    """Returns the digits, split at random by `seed`: 500 held out, the other 1,297 to learn from."""
    from sklearn.datasets import load_digits

    bunch: Any = load_digits()
    images = (bunch.data / 16).astype(np.float32)
    labels = bunch.target.astype(np.int64)
    order = np.random.default_rng(seed).permutation(len(labels))
    held_out, rest = order[:HELD_OUT], order[HELD_OUT:]
    return Digits(images[rest], labels[rest], images[held_out], labels[held_out])
