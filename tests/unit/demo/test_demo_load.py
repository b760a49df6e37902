"""The demo's calls: each made once, so many at a time, and what became of them counted honestly."""

import asyncio

import numpy as np
import pytest

from infermesh.client import InferResult
from infermesh.demo.load import Load
from infermesh.errors import NotReady

IMAGES = np.arange(3 * 64, dtype=np.float32).reshape(3, 64)


class FakeClient:
    """Answers with the number of the image; every `bad`-th call fails; counts what is under way."""

    def __init__(self, bad=0):
        self.bad = bad
        self.calls = []
        self.under_way = self.most = 0

    async def infer(self, deployment, inputs, *, version, timeout):
        self.calls.append((deployment, version, float(inputs["image"][0, 0])))
        number = len(self.calls)
        self.under_way += 1
        self.most = max(self.most, self.under_way)
        await asyncio.sleep(0)
        self.under_way -= 1
        if self.bad and number % self.bad == 0:
            raise NotReady("no")
        scores = np.zeros((1, 10), np.float32)
        scores[0, int(inputs["image"][0, 0]) // 64] = 1
        return InferResult({"scores": scores}, deployment, version or "1")


async def test_every_image_is_sent_in_turn_and_answered():
    client = FakeClient()
    counts = []
    outcome = await Load(IMAGES, calls=7, in_flight=3).run(client, counts.append)
    assert sorted(image for _, _, image in client.calls) == [0, 0, 0, 64, 64, 128, 128]
    assert outcome.answers == {number: number % 3 for number in range(7)}
    assert client.most == 3
    assert counts == list(range(1, 8))
    assert outcome.rate == pytest.approx(7 / outcome.elapsed)


async def test_failures_are_counted_and_not_answered():
    outcome = await Load(IMAGES, calls=10, in_flight=1, version="prod").run(FakeClient(bad=5))
    assert len(outcome.failures) == 2
    assert sorted(outcome.answers) == [0, 1, 2, 3, 5, 6, 7, 8]
    assert outcome.share("prod") == 1.0
    assert len(outcome.latencies) == 10


async def test_more_callers_than_calls():
    client = FakeClient()
    outcome = await Load(IMAGES, calls=2, in_flight=64).run(client)
    assert len(client.calls) == len(outcome.answers) == 2


async def test_quantiles_are_in_milliseconds():
    outcome = await Load(IMAGES, calls=1).run(FakeClient())
    outcome.latencies[:] = [0.001, 0.002, 0.003]
    assert outcome.quantile(0.5) == pytest.approx(2.0)
    assert outcome.quantile(1) == pytest.approx(3.0)
