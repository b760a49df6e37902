"""The model that every peer serves: an MLP 64→128→10 with seeded weights.

The peers import it as `mlp`, with this folder on PYTHONPATH; the harness computes the right answers with it. It calls
the operators on the weights directly, which is the fastest eager form (12 µs for a row; `torch.nn.Sequential` takes
31 µs, frozen TorchScript 19 µs).
"""

import numpy as np
import numpy.typing as npt
import torch

FEATURES, HIDDEN, CLASSES = 64, 128, 10

torch.set_num_threads(1)
_random = torch.Generator().manual_seed(20)
_w1, _w2 = torch.randn(HIDDEN, FEATURES, generator=_random) / 8, torch.randn(CLASSES, HIDDEN, generator=_random) / 8
_b1, _b2 = torch.randn(HIDDEN, generator=_random), torch.randn(CLASSES, generator=_random)


@torch.inference_mode()
def predict(x: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Returns the logits, [rows, 10], of float32 [rows, 64]."""
    hidden = torch.nn.functional.linear(torch.from_numpy(x), _w1, _b1).relu_()
    logits: npt.NDArray[np.float32] = torch.nn.functional.linear(hidden, _w2, _b2).numpy()
    return logits
