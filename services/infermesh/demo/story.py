"""The demo's steps on a running mesh, in the order in which they are told."""

import asyncio
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np

from infermesh.client import AsyncClient, Retry
from infermesh.demo.digits import Digits
from infermesh.demo.load import DEPLOYMENT, Load, Outcome
from infermesh.demo.models import Scores
from infermesh.demo.picture import gallery
from infermesh.demo.stage import Stage
from infermesh.errors import MeshError
from infermesh.testing import LocalMesh

_GOLDEN: Final = 4  # images stored with a version, whose scores every worker must reproduce
_PICTURED: Final = 8
_SPLIT_CALLS: Final = 2_000
_KILL_CALLS: Final = 5_000
_IN_FLIGHT: Final = 64
_FLIP_TIMEOUT: Final = 20.0
_WANTED_ACCURACY: Final = 0.97


@dataclass(frozen=True)
class Trained:
    """A model that is ready to be pushed: its file, and its scores for the first images to learn from."""

    name: str
    file: Path
    scores: Scores


class Story:
    """Tells the story; each step needs those before it. Claims that don't hold are noted, errors are raised."""

    def __init__(self, stage: Stage, mesh: LocalMesh, digits: Digits, models: tuple[Trained, Trained]) -> None:
        self._stage = stage
        self._mesh = mesh
        self._digits = digits
        self._models = models

    async def tell(self) -> None:
        """Runs every step against the mesh's gateway."""
        async with AsyncClient(self._mesh.gateway, retry=Retry(attempts=1)) as client:
            await self._push(client)
            await self._deploy(client)
            await self._classify(client)
            await self._split(client)
            await self._flip(client)
            await self._kill(client)

    async def _push(self, client: AsyncClient) -> None:
        self._stage.heading("push both models to the registry, each with golden samples")
        for model in self._models:
            images = self._digits.images[:_GOLDEN]
            samples = [({"image": images}, {"scores": model.scores[:_GOLDEN]})]
            with self._stage.waiting(f"pushing {model.file.name}"):
                version = await client.push(
                    DEPLOYMENT, model.file, samples=samples, labels={"kind": model.name.lower()}
                )
            self._stage.show(
                f"{version.name}  {model.name}, {model.file.stat().st_size // 1024} KiB, {version.digest[:19]}…"
            )

    async def _deploy(self, client: AsyncClient) -> None:
        self._stage.heading("deploy version 1, as alias prod, on two workers")
        await client.set_alias(DEPLOYMENT, "prod", 1, expected="none")
        start = time.perf_counter()
        with self._stage.waiting("loading, checking against the golden samples, warming up"):
            deployment = await client.deploy(DEPLOYMENT, version="prod", replicas=2)
        ready = sum(version.ready_replicas for version in deployment.versions)
        self._stage.claim(
            "version 1 is ready on two workers", f"{ready} after {time.perf_counter() - start:.1f} s", ready == 2
        )

    async def _classify(self, client: AsyncClient) -> None:
        count = len(self._digits.held_out_labels)
        self._stage.heading(f"classify the {count} held-out images over gRPC, one image a call")
        alone = await self._run(client, "one at a time", count)
        crowd = await self._run(client, f"{_IN_FLIGHT} in flight", 4 * count, _IN_FLIGHT)
        accuracy = self._accuracy(alone)
        self._stage.claim("version 1 (MLP) answers", f"accuracy {accuracy:.3f}", not alone.failures and accuracy > 0.9)
        for text, outcome in (("one at a time", alone), (f"{_IN_FLIGHT} in flight ", crowd)):
            self._stage.show(
                f"{text}: [bold]{outcome.rate:,.0f}[/] requests/s, "
                f"p50 {outcome.quantile(0.5):.1f} ms, p99 {outcome.quantile(0.99):.1f} ms"
            )
        self._picture(alone)

    def _picture(self, outcome: Outcome) -> None:
        """Shows a digit of each kind that was answered right, and one that was not."""
        labels = self._digits.held_out_labels
        wrong = [number for number, answer in outcome.answers.items() if answer != labels[number]]
        first_of_each = {label: number for number, label in reversed(list(enumerate(labels.tolist())))}
        right = [number for _, number in sorted(first_of_each.items()) if number not in wrong]
        chosen = [number for number in (*right[: _PICTURED - 1], *wrong[:1]) if number in outcome.answers]
        answers = [outcome.answers[number] for number in chosen]
        images = self._digits.held_out_images[chosen]
        self._stage.show(gallery(images, answers, labels[chosen].tolist(), colour=self._stage.colour))

    async def _split(self, client: AsyncClient) -> None:
        self._stage.heading("send 10 % of the traffic to version 2 (CNN)")
        with self._stage.waiting("loading version 2 beside version 1"):
            await client.deploy(DEPLOYMENT, traffic={"prod": 90, "2": 10})
        outcome = await self._run(client, "calls", _SPLIT_CALLS, _IN_FLIGHT)
        share = outcome.share("2")
        # the share of 2,000 independent draws stays within five standard deviations of 10 %, but for bad luck of 1e-6
        allowed = 5 * (0.1 * 0.9 / _SPLIT_CALLS) ** 0.5
        self._stage.claim(
            f"10 % of {_SPLIT_CALLS:,} calls go to version 2",
            f"{share:.1%}, {len(outcome.failures)} failed",
            abs(share - 0.1) < allowed and not outcome.failures,
        )

    async def _flip(self, client: AsyncClient) -> None:
        self._stage.heading("flip alias prod from version 1 to version 2, while calls go on")
        background = asyncio.create_task(self._calls(_SPLIT_CALLS, _IN_FLIGHT // 4).run(client))
        try:
            start = time.perf_counter()
            await client.set_alias(DEPLOYMENT, "prod", 2, expected=1)
            waited = await self._until_prod_is_2(client)
            took = time.perf_counter() - start
            during = await background
        finally:
            background.cancel()
        after = await self._run(client, "calls", len(self._digits.held_out_labels), _IN_FLIGHT, version="prod")
        self._stage.claim(
            "prod answers with version 2", f"after {took * 1e3:.0f} ms, {after.share('2'):.0%}", after.share("2") == 1.0
        )
        failed = len(waited) + len(during.failures) + len(after.failures)
        self._stage.claim("no call fails during the flip", f"{failed} failed", failed == 0)
        accuracy = self._accuracy(after)
        self._stage.claim(
            f"version 2 answers {_WANTED_ACCURACY:.0%} of the held-out images right",
            f"accuracy {accuracy:.3f}",
            accuracy >= _WANTED_ACCURACY,
        )

    async def _until_prod_is_2(self, client: AsyncClient) -> list[MeshError]:
        """Calls `prod` until version 2 answers; returns the failures on the way."""
        failures: list[MeshError] = []
        async with asyncio.timeout(_FLIP_TIMEOUT):
            while True:
                outcome = await self._calls(1, version="prod").run(client)
                failures += outcome.failures
                if outcome.share("2"):
                    return failures

    async def _kill(self, client: AsyncClient) -> None:
        victim = "worker-1"
        self._stage.heading(f"kill {victim} with SIGKILL in the middle of {_KILL_CALLS:,} calls, without retries")
        killed_after = 0

        def answered(count: int) -> None:
            nonlocal killed_after
            if not killed_after and count >= _KILL_CALLS // 2:
                killed_after = count
                self._mesh.kill(victim)

        outcome = await self._run(client, "calls", _KILL_CALLS, _IN_FLIGHT, watch=answered)
        self._stage.show(
            f"{victim} died after {killed_after:,} calls; the longest call took {outcome.quantile(1):.0f} ms"
        )
        answered_all = len(outcome.answers) == _KILL_CALLS and killed_after > 0
        self._stage.claim(
            f"{_KILL_CALLS:,} calls survive the death of a worker", f"{len(outcome.failures)} failed", answered_all
        )
        for failure in outcome.failures[:3]:
            self._stage.show(f"[red]{failure}[/]")

    async def _run(
        self,
        client: AsyncClient,
        text: str,
        calls: int,
        in_flight: int = 1,
        version: str = "",
        watch: Callable[[int], None] = lambda count: None,
    ) -> Outcome:
        with self._stage.progress(text, calls) as advance:

            def answered(count: int) -> None:
                watch(count)
                if count % 50 == 0:
                    advance(count)

            return await self._calls(calls, in_flight, version).run(client, answered)

    def _calls(self, calls: int, in_flight: int = 1, version: str = "") -> Load:
        return Load(self._digits.held_out_images, calls, in_flight, version)

    def _accuracy(self, outcome: Outcome) -> float:
        labels = self._digits.held_out_labels
        return float(np.mean([outcome.answers.get(number) == label for number, label in enumerate(labels.tolist())]))
