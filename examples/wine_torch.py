"""Trains a classifier on scikit-learn's wine data, and serves it: push, deploy, infer.

Needs torch and scikit-learn. Run `infermesh up` first.
"""

import os
import tempfile
from pathlib import Path

import numpy as np
import torch
from sklearn.datasets import load_wine
from sklearn.model_selection import train_test_split

from infermesh.client import Client

ADDRESS = os.environ.get("INFERMESH_ADDRESS", "127.0.0.1:8080")


class Classifier(torch.nn.Module):
    """Thirteen measurements of a wine to the scores of three cultivars; brings its own scaling."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.layers = torch.nn.Sequential(torch.nn.Linear(13, 32), torch.nn.ReLU(), torch.nn.Linear(32, 3))

    def forward(self, wine: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns {"scores": [batch, 3]}; the names become those of the deployment's tensors."""
        return {"scores": self.layers((wine - self.mean) / self.deviation)}


def train(features: torch.Tensor, targets: torch.Tensor) -> Classifier:
    """Returns a trained model."""
    torch.manual_seed(0)
    model = Classifier(features.mean(0), features.std(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(features)["scores"], targets).backward()
        optimizer.step()
    return model.eval()


def main() -> None:
    """Trains, pushes, deploys and measures."""
    data, target = load_wine(return_X_y=True)
    known, unknown, known_target, unknown_target = train_test_split(
        data.astype(np.float32), target, test_size=0.3, random_state=0
    )
    model = train(torch.from_numpy(known), torch.from_numpy(known_target))

    with tempfile.TemporaryDirectory() as folder, Client(ADDRESS) as client:
        file = Path(folder) / "wine.pt2"
        batch = torch.export.Dim("batch", min=1, max=64)
        program = torch.export.export(model, (torch.from_numpy(known[:2]),), dynamic_shapes={"wine": {0: batch}})
        torch.export.save(program, file)

        # every worker must reproduce this before it may serve the version
        sample = ({"wine": known[:4]}, {"scores": model(torch.from_numpy(known[:4]))["scores"].detach().numpy()})
        version = client.push("wine", file, samples=[sample])
        print("pushed", version.name)
        deployment = client.deploy("wine", version=version.name.rpartition("/")[2])
        print("deployed", deployment.name)

        result = client.infer("wine", {"wine": unknown})
        accuracy = float((result["scores"].argmax(1) == unknown_target).mean())
        print(f"version {result.version} names the cultivar of {accuracy:.0%} of {len(unknown)} unknown wines")


if __name__ == "__main__":
    main()
