"""Runner processes: they answer in order, fail alone, are noticed when they die, and leave nothing behind."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import AsyncIterator, Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
import uvloop

from infermesh.errors import InvalidInput, LoadFailed, ModelFailed, RunnerDied, WorkerLost
from infermesh.v1 import model_pb2
from infermesh.worker.runner import Buffer, Runner, RunnerSpec, RunResult
from tests.contract.backend_models import add_sample, expected, features, version, write

SOURCE = """
import os, sys, time
import numpy as np

class Model:
    def infer(self, inputs):
        x = inputs["x"]
        command = x.flat[0] if x.size else 0
        if command == -1:
            os._exit(7)
        if command == -2:
            raise ValueError("minus two is not a number for me")
        if command == -3:
            raise KeyError("secret\\nmore")
        if command == -4:
            time.sleep(600)
        if command == -5:
            os.kill(os.getpid(), 11)
        print("a model may print")
        return {"y": x + 1}
"""


Children = Callable[[], Sequence[psutil.Process]]


@pytest.fixture
def children() -> Children:
    """Returns the processes that the test has started: a mesh of other tests may be running beside them."""
    before = {process.pid for process in psutil.Process().children(recursive=True)}
    return lambda: [process for process in psutil.Process().children(recursive=True) if process.pid not in before]


@pytest.fixture
def spec(tmp_path: Path) -> RunnerSpec:
    (tmp_path / "model.py").write_text(SOURCE)
    described = model_pb2.ModelVersion(backend="python", max_batch_size=4)
    described.signature.inputs.add(name="x", datatype="FP32", shape=[-1, -1])
    described.signature.outputs.add(name="y", datatype="FP32", shape=[-1, -1])
    return RunnerSpec(described, tmp_path, allow_python=True)


@pytest.fixture
async def runner(spec: RunnerSpec) -> AsyncIterator[Runner]:
    started = await Runner.start(spec)
    yield started
    await started.close()


def batch(*parts: Any) -> list[Buffer]:
    arrays = [np.atleast_2d(np.asarray(part, np.float32)) for part in parts]
    rows = sum(len(array) for array in arrays)
    return [Buffer("x", "FP32", [rows, arrays[0].shape[1]], [array.tobytes() for array in arrays])]


def values(result: RunResult) -> Any:
    (out,) = result.outputs
    return np.frombuffer(out.data, np.float32).reshape(out.shape)


async def test_requests_join_to_a_batch(runner: Runner) -> None:
    result = await runner.run(batch([1, 2], [[3, 4], [5, 6]]))
    assert values(result).tolist() == [[2, 3], [4, 5], [6, 7]]
    assert result.compute_us >= 0


async def test_several_batches_wait_in_order(runner: Runner) -> None:
    done: list[int] = []

    def note(number: int, future: Any) -> None:
        done.append(number)

    futures = [runner.run(batch([float(n)])) for n in range(20)]
    for n, future in enumerate(futures):
        future.add_done_callback(partial(note, n))
    results = await asyncio.gather(*futures)
    assert [float(values(result)[0, 0]) for result in results] == [n + 1 for n in range(20)]
    assert done == list(range(20))


async def test_large_tensors_pass_whole(runner: Runner) -> None:
    large = np.random.default_rng(1).normal(size=(3, 1_000_000)).astype(np.float32)
    results = await asyncio.gather(*(runner.run(batch(*large)) for _ in range(2)))
    for result in results:
        np.testing.assert_array_equal(values(result), large + 1)


async def test_a_refused_input_fails_alone(runner: Runner) -> None:
    futures = [runner.run(batch([float(n)])) for n in (1, -2, 2)]
    one, refused, two = await asyncio.gather(*futures, return_exceptions=True)
    assert isinstance(refused, InvalidInput)
    assert refused.message == "the model refused this input: minus two is not a number for me"
    assert [values(result)[0, 0] for result in (one, two)] == [2, 3]  # type: ignore[arg-type]


async def test_a_failing_model_says_why_in_one_line(runner: Runner) -> None:
    with pytest.raises(ModelFailed) as caught:
        await runner.run(batch([-3.0]))
    assert caught.value.message == r"the model failed: KeyError: 'secret\nmore'"
    assert values(await runner.run(batch([1.0])))[0, 0] == 2


async def test_a_result_that_nobody_waits_for_is_dropped(runner: Runner) -> None:
    runner.run(batch([1.0])).cancel()
    assert values(await runner.run(batch([5.0])))[0, 0] == 6


@pytest.mark.parametrize(("command", "text"), [(-1.0, "exit status 7"), (-5.0, "killed by SIGSEGV")])
async def test_a_death_is_noticed_and_described(runner: Runner, command: float, text: str) -> None:
    futures = [runner.run(batch([n])) for n in (command, 1.0, 2.0)]
    results = await asyncio.gather(*futures, return_exceptions=True)
    assert [type(result) for result in results] == [RunnerDied, WorkerLost, WorkerLost], "only the first was begun"
    assert await runner.died == text
    with pytest.raises(WorkerLost):
        await runner.run(batch([1.0]))


async def test_closing_ends_what_is_pending_and_a_busy_process(runner: Runner) -> None:
    process = psutil.Process(runner.pid)
    future = runner.run(batch([-4.0]))
    await asyncio.sleep(0)
    await runner.close()
    with pytest.raises(WorkerLost, match="it was closed"):
        await future
    assert not process.is_running()
    assert runner.died.cancelled()
    await runner.close()  # again


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_to_the_group_do_not_cut_executions(runner: Runner, number: int) -> None:
    os.kill(runner.pid, number)
    assert values(await runner.run(batch([1.0])))[0, 0] == 2


async def test_a_runner_ends_with_its_worker(spec: RunnerSpec, tmp_path: Path) -> None:
    script = """
import asyncio, os, pathlib, signal, sys
from infermesh.v1 import model_pb2
from infermesh.worker.runner import Buffer, Runner, RunnerSpec
async def main():
    folder = pathlib.Path(sys.argv[1])
    version = model_pb2.ModelVersion.FromString((folder / "version").read_bytes())
    runner = await Runner.start(RunnerSpec(version, folder, allow_python=True))
    import numpy
    runner.run([Buffer("x", "FP32", [1, 1], [numpy.float32([[-4]]).tobytes()])])
    await asyncio.sleep(0.1)
    print(runner.pid, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
asyncio.run(main())
"""
    (tmp_path / "version").write_bytes(spec.version.SerializeToString())
    worker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script, str(tmp_path)),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    # the end of the second comes only when the runner, which inherited it, is gone as well; its model sleeps for longer
    out, _ = await asyncio.wait_for(worker.communicate(), 60)
    assert int(out) != worker.pid
    assert worker.returncode == -signal.SIGKILL


async def test_code_is_refused_unless_it_is_allowed(spec: RunnerSpec, children: Children) -> None:
    with pytest.raises(LoadFailed, match="--allow-python") as caught:
        await Runner.start(RunnerSpec(spec.version, spec.folder))
    assert caught.value.reason == "PYTHON_NOT_ALLOWED"
    assert children() == []


async def test_a_process_that_dies_while_it_loads_fails_the_load(spec: RunnerSpec) -> None:
    (spec.folder / "model.py").write_text("import os; os._exit(3)")
    with pytest.raises(LoadFailed, match=r"ended while it was loading: .*exit status 3"):
        await Runner.start(spec)


async def test_a_load_that_is_cancelled_leaves_no_process(spec: RunnerSpec, children: Children) -> None:
    (spec.folder / "model.py").write_text("import time; time.sleep(600)")
    task = asyncio.ensure_future(Runner.start(spec))
    while not children():  # noqa: ASYNC110  # nobody tells when a process has been started
        await asyncio.sleep(0.01)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert children() == []


@pytest.mark.parametrize("form", ["onnx", "pt2"])
@pytest.mark.filterwarnings("ignore")  # torch's own, about itself
async def test_a_version_is_loaded_checked_measured_and_run(form: str, tmp_path: Path) -> None:
    write(form, tmp_path)
    described = version(form)
    add_sample(described)
    runner = await Runner.start(RunnerSpec(described, tmp_path, threads=2))
    try:
        rows = [rows for rows, _ in runner.report.batch_times]
        assert rows == [1, 2, 4, 8, 16, 32][: len(rows)]
        assert runner.report.memory_bytes > 1 << 20
        x = features(5)
        result = await runner.run([Buffer("x", "FP32", x.shape, [x[:2].tobytes(), x[2:].tobytes()])], ["best"])
        (best,) = result.outputs
        assert (best.name, best.datatype, best.shape) == ("best", "INT64", (5,))
        assert np.frombuffer(best.data, np.int64).tolist() == expected(x)["best"].tolist()
    finally:
        await runner.close()


async def test_a_version_that_fails_its_golden_check_is_not_started(tmp_path: Path, children: Children) -> None:
    write("onnx", tmp_path)
    described = version("onnx")
    add_sample(described, off_by=1.0)
    with pytest.raises(LoadFailed, match=r'golden check: sample 0: output "scores" row 1 element \[2\]: expected') as c:
        await Runner.start(RunnerSpec(described, tmp_path))
    assert c.value.reason == "GOLDEN_CHECK_FAILED"
    assert children() == []


def resident(children: Children) -> int:
    return sum(process.memory_info().rss for process in [psutil.Process(), *children()])


async def cycles(spec: RunnerSpec, count: int) -> None:
    for _ in range(count):
        runner = await Runner.start(spec)
        await runner.run(batch([1.0]))
        await runner.close()


def test_twenty_loads_and_unloads_leave_nothing(spec: RunnerSpec, children: Children) -> None:
    """On the loop that workers use."""
    process = psutil.Process()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as loop:
        loop.run(cycles(spec, 1))  # what is made once and kept
        gc.collect()
        memory, files, threads = resident(children), process.num_fds(), process.num_threads()
        loop.run(cycles(spec, 20))
        gc.collect()
        assert children() == []
        assert process.num_fds() == files
        assert process.num_threads() == threads
        assert resident(children) <= memory * 1.1
