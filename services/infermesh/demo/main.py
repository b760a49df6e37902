"""The demo from beginning to end: train, start a mesh, tell the story, stop everything. Called by `cli/demo.py`."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory

from rich.console import Console

from infermesh.demo import digits, models
from infermesh.demo.digits import Digits
from infermesh.demo.stage import Stage
from infermesh.demo.story import Story, Trained
from infermesh.testing import LocalMesh, MeshOptions
from infermesh.testing.interrupts import stop_signals_interrupt


@dataclass(frozen=True)
class DemoOptions:
    """How the demo runs. The same seed gives the same split and the same models."""

    seed: int = 0
    device: str = "cpu"


def run(options: DemoOptions, console: Console) -> bool:
    """Runs the demo and returns whether it kept every claim. Leaves no process and no file, however it ends."""
    stage = Stage(console)
    with stop_signals_interrupt(), TemporaryDirectory(prefix="infermesh-demo-") as folder:
        data = digits.load(options.seed)
        trained = _train(stage, data, Path(folder), options.seed)
        mesh = LocalMesh(Path(folder) / "home", MeshOptions(workers=2, device=options.device))
        try:
            _start(stage, mesh)
            asyncio.run(Story(stage, mesh, data, trained).tell())
        finally:
            _stop(stage, mesh)
    stage.summary()
    return stage.kept


def _train(stage: Stage, data: Digits, folder: Path, seed: int) -> tuple[Trained, Trained]:
    stage.heading(f"train two models on {len(data.labels):,} of 1,797 handwritten digits, and export them")
    first, second = (_train_one(stage, recipe, data, folder, seed) for recipe in models.RECIPES)
    return first, second


def _train_one(stage: Stage, recipe: models.Recipe, data: Digits, folder: Path, seed: int) -> Trained:
    for model in stage.watched(models.train(recipe, data, seed), f"training {recipe.name}", recipe.epochs):
        trained = model
    file = folder / f"{recipe.name.lower()}.pt2"
    models.export(trained, file)
    stage.show(f"{recipe.name}: {recipe.epochs} epochs, exported to {file.name}")
    return Trained(recipe.name, file, models.scores(trained, data.images))


def _start(stage: Stage, mesh: LocalMesh) -> None:
    stage.heading("start a mesh: registry, scheduler, two workers and the gateway, each a process")
    with stage.waiting("starting the registry"):
        for names in mesh.starting():
            for name in names:
                stage.show(f"{name:<10} {mesh.address(name):<22} pid {mesh.processes[name].pid}")


def _stop(stage: Stage, mesh: LocalMesh) -> None:
    killed = set(mesh.dead())
    if len(killed) == len(mesh.processes):  # it never ran
        return
    stage.heading("stop everything")
    with stage.waiting("calls finish, models unload, processes end"):
        mesh.stop()
    codes = {name: service.returncode for name, service in mesh.processes.items() if name not in killed}
    clean = [name for name, code in codes.items() if code == 0]
    promise = "every service that was not killed ends by itself, with exit code 0"
    stage.claim(promise, f"{len(clean)} of {len(codes)}", len(clean) == len(codes))
