"""Trains a classifier of irises in the cluster, and serves it: push, alias, deploy, infer.

Runs in the worker's image, which has torch. `iris.csv` is Fisher's data of 1936 (The use of multiple measurements in
taxonomic problems): four lengths in centimetres, and the species.
"""

import csv
import os
import tempfile
from pathlib import Path

import numpy as np
import torch

from infermesh.client import Client

ADDRESS = os.environ["INFERMESH_ADDRESS"]
DATA = Path(__file__).with_name("iris.csv")
SPECIES = ("setosa", "versicolor", "virginica")


class Classifier(torch.nn.Module):
    """Four lengths of a flower to the scores of three species; brings its own scaling."""

    def __init__(self, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        super().__init__()
        self.register_buffer("mean", mean)
        self.register_buffer("deviation", deviation)
        self.layers = torch.nn.Sequential(torch.nn.Linear(4, 16), torch.nn.ReLU(), torch.nn.Linear(16, 3))

    def forward(self, flower: torch.Tensor) -> dict[str, torch.Tensor]:
        """Returns {"scores": [batch, 3]}; the names become those of the deployment's tensors."""
        return {"scores": self.layers((flower - self.mean) / self.deviation)}


def read() -> tuple[np.ndarray, np.ndarray]:
    """Returns the flowers and the number of the species of each, shuffled."""
    with DATA.open() as file:
        rows = list(csv.reader(file))[1:]
    flowers = np.array([row[:4] for row in rows], np.float32)
    species = np.array([SPECIES.index(row[4]) for row in rows])
    order = np.random.default_rng(0).permutation(len(rows))
    return flowers[order], species[order]


def train(flowers: torch.Tensor, species: torch.Tensor) -> Classifier:
    """Returns a trained model."""
    torch.manual_seed(0)
    model = Classifier(flowers.mean(0), flowers.std(0))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.02)
    for _ in range(200):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(flowers)["scores"], species).backward()
        optimizer.step()
    return model.eval()


def export(model: Classifier, flowers: torch.Tensor, file: Path) -> None:
    """Writes the model as a program that needs no code of ours."""
    batch = torch.export.Dim("batch", min=1, max=64)
    torch.export.save(torch.export.export(model, (flowers[:2],), dynamic_shapes={"flower": {0: batch}}), file)


def main() -> None:
    """Trains, pushes, deploys and measures."""
    flowers, species = read()
    known, unknown = torch.from_numpy(flowers[:100]), flowers[100:]
    model = train(known, torch.from_numpy(species[:100]))
    with tempfile.TemporaryDirectory() as folder, Client(ADDRESS) as client:
        file = Path(folder) / "iris.pt2"
        export(model, known, file)
        # every worker must reproduce this before it may serve the version
        sample = ({"flower": known[:4].numpy()}, {"scores": model(known[:4])["scores"].detach().numpy()})
        version = client.push("iris", file, samples=[sample]).name.rpartition("/")[2]
        client.set_alias("iris", "prod", int(version))
        # on every worker of the pool, however many there are: `kubectl scale` is all that it takes to grow
        client.deploy("iris", version="prod", replicas="all", pool="cpu")
        scores = client.infer("iris", {"flower": unknown}, version="prod")["scores"]
    right = float((scores.argmax(1) == species[100:]).mean())
    print(f"version {version} is prod; it names the species of {right:.0%} of {len(unknown)} unknown irises")


if __name__ == "__main__":
    main()
