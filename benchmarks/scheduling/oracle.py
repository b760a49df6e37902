"""Balancing beside an oracle that knows all work that is left: four workers, one of them three times as slow."""

from random import Random

from infermesh.simulation import Curve, Model, Noise, Scenario, Shape, simulate
from infermesh.simulation.arrivals import requests
from infermesh.simulation.device import Timing

_SECONDS = 0.010
_WORKERS = 4
_SLOW = {_WORKERS - 1: 3.0}
_LOAD = 0.8
POLICIES = ("least_load", "round_robin", "random")


def balance(seed: int, count: int, sigma: float = 0.5) -> dict[str, float]:
    """Returns the p99 of the latency, in seconds, under each policy and under the oracle.

    Requests come at random and run one by one; how long each takes is lognormal with a deviation of `sigma`.
    """
    rate = _LOAD * (_WORKERS - 1 + 1 / _SLOW[_WORKERS - 1]) / _SECONDS
    model = Model(Curve(((1, _SECONDS),)), 1)
    found = {}
    for policy in POLICIES:
        played = requests(Shape.poisson, rate, count / rate, ["a"], [1.0], float("inf"), seed)
        scenario = Scenario({"a": model}, _WORKERS, policy, seed, noise=Noise(sigma, 0.0), slow=_SLOW, delay=0.0)
        found[policy] = simulate(scenario, played).latency["p99"]
    found["oracle"] = _oracle(rate, count, sigma, seed)
    return found


def _oracle(rate: float, count: int, sigma: float, seed: int) -> float:
    """Least work left: each request goes, when it comes, to the worker that will have answered it first, by the time
    that it and all before it will really take."""
    timing = Timing(Noise(sigma, 0.0), Random(f"{seed} executions"))
    free = [0.0] * _WORKERS
    latencies = []
    for order, request in enumerate(requests(Shape.poisson, rate, count / rate, ["a"], [1.0], float("inf"), seed)):
        work = _SECONDS * timing.factor(order)
        ends = [max(at, request.at) + work * _SLOW.get(number, 1.0) for number, at in enumerate(free)]
        chosen = min(range(_WORKERS), key=ends.__getitem__)
        free[chosen] = ends[chosen]
        latencies.append(ends[chosen] - request.at)
    return sorted(latencies)[int(len(latencies) * 0.99)]
