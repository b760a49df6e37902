"""A runner whose engine is in the test's hands, and versions for it."""

import asyncio
from collections.abc import Sequence

from infermesh.errors import MeshError, WorkerLost
from infermesh.v1 import model_pb2, runner_pb2
from infermesh.worker.frames import Buffer, encode_error
from infermesh.worker.runner import Emitted, LoadReport
from tests.unit.worker.worker_fakes import FakeRunner, floats, version_of


def decoupled_version() -> model_pb2.ModelVersion:
    """Returns a version without a batch dimension: two floats in; any number of responses of two floats and a text."""
    version = version_of([("x", "FP32", (-1, 2))], [("y", "FP32", (2,)), ("text", "BYTES", (1,))], max_batch_size=0)
    version.decoupled = True
    return version


class FakeEngine(FakeRunner):
    """Remembers what was begun and forgotten; the test says what each step gives."""

    def __init__(self, slots: int = 4) -> None:
        super().__init__()
        self.report = LoadReport(0, (), slots)
        self.begun: list[tuple[list[Buffer], tuple[str, ...]]] = []
        self.forgotten: list[int] = []
        self.emitted: Emitted = lambda emissions, payload: None
        self.lost = False

    def begin(self, inputs: Sequence[Buffer], outputs: Sequence[str] = ()) -> int:
        if self.lost:
            raise WorkerLost("the runner process has ended")
        self.begun.append((list(inputs), tuple(outputs)))
        return len(self.begun)

    def forget(self, number: int) -> None:
        self.forgotten.append(number)

    def step(self, values: dict[int, float], *finished: int, text: bool = True) -> None:
        """Gives each of these sequences a response, with or without the text; `finished` end with it."""
        count = len(values)
        data = b"".join(floats(value, value) for value in values.values())
        specs = [runner_pb2.BufferSpec(name="y", datatype="FP32", shape=[count, 2], size_bytes=len(data))]
        if text:
            words = [b"%g" % value for value in values.values()]
            raw = b"".join(len(word).to_bytes(4, "little") + word for word in words)
            specs.append(runner_pb2.BufferSpec(name="text", datatype="BYTES", shape=[count, 1], size_bytes=len(raw)))
            data += raw
        emission = runner_pb2.Emission(sequences=list(values), outputs=specs, finished=finished)
        self.emitted([emission], memoryview(data))

    def end(self, *numbers: int, error: MeshError | None = None) -> None:
        """Ends sequences without a response, or with an error."""
        emission = runner_pb2.Emission(sequences=numbers, finished=numbers)
        if error is not None:
            emission.error.CopyFrom(encode_error(error))
        self.emitted([emission], memoryview(b""))


async def soon() -> None:
    """Lets the event loop run what is due."""
    for _ in range(5):
        await asyncio.sleep(0)
