"""Whatever happens in whatever order: no worker gets more than its credit, and every call ends, once, with its own
answer or a typed error."""

import asyncio

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from infermesh.errors import MeshError, WorkerLost
from infermesh.gateway.admission import Limits
from infermesh.gateway.calls import Call
from infermesh.gateway.pending import PendingStream
from tests.unit.gateway.simulation import SimMesh, SimWorker, deployed, settle
from tests.unit.gateway.virtual import VirtualLoop

NAMES = ("a", "b", "c")
VERSIONS = ("1", "2")
POLICIES = ("round_robin", "random", "least_load", "weighted")


class Gateway(RuleBasedStateMachine):
    """A dispatcher with three workers, on which everything may happen."""

    def __init__(self) -> None:
        super().__init__()
        self.runner = asyncio.Runner(loop_factory=VirtualLoop)
        self.problems: list[object] = []
        self.runner.get_loop().set_exception_handler(lambda _, context: self.problems.append(context))
        self.workers = {n: SimWorker(n, {f"digits/{v}": 2 for v in VERSIONS}, seconds=0.1) for n in NAMES}
        self.calls: list[tuple[bytes, asyncio.Future[bytes]]] = []
        self.streams: list[tuple[bytes, asyncio.Task[list[bytes]]]] = []

    def run(self, coroutine) -> object:  # type: ignore[no-untyped-def]
        return self.runner.run(coroutine)

    @initialize()
    def start(self) -> None:
        async def started() -> None:
            self.mesh = SimMesh(*self.workers.values(), limits=Limits(hold=2.0))
            await self.mesh.__aenter__()
            await self.mesh.route(deployed({v: list(self.workers.values()) for v in VERSIONS}))

        self.run(started())

    @rule(
        count=st.integers(1, 12),
        version=st.sampled_from(["", *VERSIONS]),
        timeout=st.sampled_from([None, 0.05, 0.35, 3.0]),
        priority=st.integers(-1, 1),
    )
    def infer(self, count: int, version: str, timeout: float | None, priority: int) -> None:
        async def calling() -> None:
            for _ in range(count):
                payload = b"%d" % len(self.calls)
                call = self.mesh.infer(version, payload, timeout=timeout, priority=priority)
                self.calls.append((payload, call))

        self.run(calling())

    @rule(version=st.sampled_from(VERSIONS))
    def stream(self, version: str) -> None:
        payload = b"s%d" % len(self.streams)

        async def reading(stream: PendingStream) -> list[bytes]:
            return [response async for response in stream]

        async def calling() -> None:
            stream = self.mesh.core.dispatcher.stream(Call("digits", version, payload))
            self.streams.append((payload, asyncio.create_task(reading(stream))))

        self.run(calling())

    @rule(chosen=st.lists(st.integers(0, 1_000), max_size=5))
    def cancel(self, chosen: list[int]) -> None:
        async def cancelling() -> None:
            for number in chosen:
                if self.calls:
                    self.calls[number % len(self.calls)][1].cancel()

        self.run(cancelling())

    @rule(seconds=st.sampled_from([0.01, 0.1, 0.5, 2.5]))
    def wait(self, seconds: float) -> None:
        self.run(asyncio.sleep(seconds))

    @rule(name=st.sampled_from(NAMES))
    def kill(self, name: str) -> None:
        self.act(self.workers[name].kill)

    @rule(name=st.sampled_from(NAMES))
    def revive(self, name: str) -> None:
        self.act(self.workers[name].revive)

    @rule(name=st.sampled_from(NAMES))
    def drain(self, name: str) -> None:
        self.act(self.workers[name].drain)

    @rule(name=st.sampled_from(NAMES), version=st.sampled_from(VERSIONS), credit=st.integers(0, 4), gone=st.booleans())
    def change_credit(self, name: str, version: str, credit: int, gone: bool) -> None:
        self.act(lambda: self.workers[name].set_credit(f"digits/{version}", credit, gone=gone and credit == 0))

    @rule(name=st.sampled_from(NAMES), failing=st.booleans())
    def lose_runner(self, name: str, failing: bool) -> None:
        self.workers[name].outcome = lambda _: (WorkerLost("runner died"), False) if failing else None

    @rule(ones=st.sets(st.sampled_from(NAMES)), twos=st.sets(st.sampled_from(NAMES)), policy=st.sampled_from(POLICIES))
    def reroute(self, ones: set[str], twos: set[str], policy: str) -> None:
        versions = {"1": [self.workers[n] for n in sorted(ones)], "2": [self.workers[n] for n in sorted(twos)]}
        self.run(self.mesh.route(deployed(versions, policy=policy)))

    def act(self, action) -> None:  # type: ignore[no-untyped-def]
        async def acting() -> None:
            action()
            await settle()
            for worker in self.workers.values():
                worker.told()

        self.run(acting())

    @invariant()
    def nothing_was_violated(self) -> None:
        assert [worker.violations for worker in self.workers.values() if worker.violations] == []
        assert self.problems == []

    def teardown(self) -> None:
        async def ending() -> None:
            for worker in self.workers.values():
                worker.revive()
                worker.outcome = lambda _: None
                for version in VERSIONS:
                    worker.set_credit(f"digits/{version}", 4)
            await self.mesh.route(deployed({v: list(self.workers.values()) for v in VERSIONS}))
            await asyncio.sleep(120)
            assert self.mesh.core.dispatcher.in_flight() == 0
            assert self.mesh.core._directory.tally.bytes == 0
            await self.mesh.__aexit__()

        if hasattr(self, "mesh"):
            self.run(ending())
            self.check_calls()
            self.check_streams()
        self.runner.close()

    def check_calls(self) -> None:
        for payload, call in self.calls:
            assert call.done()
            if call.cancelled():
                continue
            error = call.exception()
            assert error is None or isinstance(error, MeshError)
            if error is None:
                assert call.result().rpartition(b"|")[2] == payload

    def check_streams(self) -> None:
        for payload, reading in self.streams:
            assert reading.done()
            error = reading.exception()
            assert error is None or isinstance(error, MeshError)
            if error is None:
                assert [response.rpartition(b"|")[2] for response in reading.result()] == [payload] * 3


TestGateway = Gateway.TestCase
TestGateway.settings = settings(max_examples=15, stateful_step_count=30, deadline=None)
