"""Puts a simulation together and runs it."""

from collections.abc import Iterable
from random import Random

from infermesh.errors import InvalidInput
from infermesh.simulation.arrivals import Request
from infermesh.simulation.device import Timing
from infermesh.simulation.fleet import SimulatedWorker
from infermesh.simulation.gateway import Load, SimulatedGateway
from infermesh.simulation.loop import VirtualLoop
from infermesh.simulation.record import Record
from infermesh.simulation.report import Report, report
from infermesh.simulation.scenario import Scenario


def simulate(scenario: Scenario, requests: Iterable[Request]) -> Report:
    """Plays requests, which come in the order of their times, through a mesh, as fast as the machine can.

    The same scenario and requests give the same report, digest included. Raises InvalidInput without a worker.
    """
    if scenario.workers < 1:
        raise InvalidInput(f"workers: expected at least 1, got {scenario.workers}")
    loop = VirtualLoop()  # type: ignore[abstract]  # of a loop's many methods only those are there that are used
    finished: Report = loop.run_until_complete(_run(scenario, requests))
    return finished


async def _run(scenario: Scenario, requests: Iterable[Request]) -> Report:
    record = Record(scenario.workers)
    timing = Timing(scenario.noise, Random(f"{scenario.seed} executions"))
    workers = [SimulatedWorker(number, scenario, record, timing) for number in range(scenario.workers)]
    async with SimulatedGateway(scenario, {worker.address: worker for worker in workers}) as gateway:
        seconds = await Load(gateway, scenario, record).play(requests)
    return report(record, seconds)
