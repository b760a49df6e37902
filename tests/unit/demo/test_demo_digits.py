"""The demo's data and models: seeded, really held out, and exported as clients expect them."""

import numpy as np
import pytest

from infermesh.client.formats import describe
from infermesh.demo import digits, models


@pytest.fixture(scope="module")
def data():
    """The split of seed 0."""
    return digits.load(0)


def test_500_are_held_out_and_1297_are_not(data):
    assert data.images.shape == (1_297, 64)
    assert data.held_out_images.shape == (500, 64)
    assert data.images.dtype == np.float32
    assert 0 <= data.images.min() <= data.images.max() <= 1
    other = digits.load(7)
    ours = np.concatenate([data.images, data.held_out_images])
    theirs = np.concatenate([other.images, other.held_out_images])
    assert sorted(map(bytes, ours)) == sorted(map(bytes, theirs)), "every image is in one part or the other"


def test_the_seed_decides_the_split(data):
    assert np.array_equal(digits.load(0).held_out_images, data.held_out_images)
    assert not np.array_equal(digits.load(1).held_out_images, data.held_out_images)


def test_a_shift_moves_by_at_most_one_pixel_and_keeps_the_ink_that_stays_inside():
    image = np.zeros((1, 8, 8), np.float32)
    image[0, 4, 4] = 1
    generator = np.random.default_rng(0)
    seen = set()
    for _ in range(200):
        shifted = models._shifted(image.reshape(1, 64), generator).reshape(8, 8)
        ((row, column),) = np.argwhere(shifted)
        seen.add((int(row) - 4, int(column) - 4))
    assert seen == {(down, right) for down in (-1, 0, 1) for right in (-1, 0, 1)}


def test_training_is_repeatable_and_the_export_says_what_it_takes(data, tmp_path):
    import torch

    recipe = models.Recipe("MLP", models.mlp, epochs=2, shifts=False)
    before = torch.random.get_rng_state()
    (*_, first), (*_, second) = models.train(recipe, data, 3), models.train(recipe, data, 3)
    assert torch.equal(torch.random.get_rng_state(), before), "the caller's random state is left alone"
    scores = models.scores(first, data.held_out_images)
    assert scores.shape == (500, 10)
    assert np.array_equal(scores, models.scores(second, data.held_out_images))
    models.export(first, tmp_path / "mlp.pt2")
    signature = describe(tmp_path / "mlp.pt2").signature
    assert [(spec.name, spec.datatype, list(spec.shape)) for spec in signature.inputs] == [("image", "FP32", [-1, 64])]
    assert [(spec.name, list(spec.shape)) for spec in signature.outputs] == [("scores", [-1, 10])]
