"""The demo's two models, their training and their export. Both take `image`, FP32 [-1, 64], and give ten scores.

torch is heavy, so everything of it stays inside the functions.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from infermesh.demo.digits import PIXELS, SIDE, Digits, Images

if TYPE_CHECKING:
    import torch

Scores = NDArray[np.float32]

_BATCH: Final = 64
_RATE: Final = 6e-3


@dataclass(frozen=True)
class Recipe:
    """How one version comes about: `build` makes the untrained model; `epochs` is how often it sees every image."""

    name: str
    build: Callable[[], "torch.nn.Module"]
    epochs: int
    shifts: bool  # move every image by up to one pixel, another way in each epoch


def mlp() -> "torch.nn.Module":
    """Returns an untrained perceptron with one hidden layer: version 1."""
    from torch import nn

    return nn.Sequential(nn.Linear(PIXELS, 32), nn.ReLU(), nn.Linear(32, 10))


def cnn() -> "torch.nn.Module":
    """Returns an untrained convolutional network: version 2."""
    from torch import nn

    return nn.Sequential(
        nn.Unflatten(1, (1, SIDE, SIDE)),
        nn.Conv2d(1, 24, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(24, 48, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Dropout(0.3),
        nn.Linear(48 * PIXELS // 4, 96),
        nn.ReLU(),
        nn.Linear(96, 10),
    )


RECIPES: Final = (Recipe("MLP", mlp, epochs=12, shifts=False), Recipe("CNN", cnn, epochs=20, shifts=True))


def train(recipe: Recipe, digits: Digits, seed: int) -> Iterator["torch.nn.Module"]:
    """Trains a model and yields it after every epoch, for a caller that shows progress. Same seed, same model."""
    import torch

    with _determined(seed):
        model = recipe.build()
        steps = len(digits.labels) // _BATCH
        optimiser = torch.optim.AdamW(model.parameters(), lr=_RATE, weight_decay=1e-2)
        schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=_RATE, total_steps=recipe.epochs * steps)
        generator = np.random.default_rng(seed)
        for _ in range(recipe.epochs):
            images = _shifted(digits.images, generator) if recipe.shifts else digits.images
            model.train()
            for chosen in np.split(generator.permutation(len(images))[: steps * _BATCH], steps):
                _step(model, optimiser, images[chosen], digits.labels[chosen])
                schedule.step()
            yield model.eval()


def _step(
    model: "torch.nn.Module", optimiser: "torch.optim.Optimizer", images: Images, labels: NDArray[np.int64]
) -> None:
    from torch import from_numpy
    from torch.nn.functional import cross_entropy

    loss = cross_entropy(model(from_numpy(images)), from_numpy(labels), label_smoothing=0.05)
    optimiser.zero_grad()
    loss.backward()  # type: ignore[no-untyped-call]
    optimiser.step()


@contextmanager
def _determined(seed: int) -> Iterator[None]:
    """Makes torch repeat itself for a while. One thread: on models this small more cost more than they give."""
    import torch

    threads = torch.get_num_threads()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        torch.set_num_threads(1)
        try:
            yield
        finally:
            torch.set_num_threads(threads)


def _shifted(images: Images, generator: np.random.Generator) -> Images:
    """Returns the images, each moved by -1, 0 or 1 pixel both ways; what comes in at the edges is empty."""
    count = len(images)
    framed = np.pad(images.reshape(count, SIDE, SIDE), ((0, 0), (1, 1), (1, 1)))
    down, right = generator.integers(0, 3, (2, count))
    rows = down[:, None, None] + np.arange(SIDE)[None, :, None]
    columns = right[:, None, None] + np.arange(SIDE)[None, None, :]
    moved: Images = framed[np.arange(count)[:, None, None], rows, columns].reshape(count, PIXELS)
    return moved


def scores(model: "torch.nn.Module", images: Images) -> Scores:
    """Returns the model's scores, shape (n, 10)."""
    import torch

    with torch.inference_mode():
        answer: Scores = model(torch.from_numpy(images)).numpy()
    return answer


def export(model: "torch.nn.Module", path: Path) -> None:
    """Writes the model as an exported program: one input `image` of shape (batch, 64), any batch."""
    import torch

    class Classifier(torch.nn.Module):
        """Gives the input the name that clients use."""

        def __init__(self) -> None:
            super().__init__()
            self.layers = model

        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {"scores": self.layers(image)}

    example = torch.zeros(2, PIXELS)
    batch = torch.export.Dim("batch", min=1, max=1024)
    program = torch.export.export(Classifier().eval(), (example,), dynamic_shapes={"image": {0: batch}})
    torch.export.save(program, path)
