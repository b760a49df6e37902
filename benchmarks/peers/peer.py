"""A peer: another model server, in its own environment, with the same model behind its own wire."""

import os
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from benchmarks.peers.environment import Environment, InstallError, reason
from benchmarks.peers.model import mlp
from benchmarks.peers.processes import ProcessTree
from benchmarks.peers.wire import Array, Wire, WireError

HERE = Path(__file__).parent
START = 120.0
"""Seconds that a peer gets for its start."""
PATIENCE = 5.0

Group = Literal["best", "heavy", "other"]


class PeerError(Exception):
    """A peer does not start, or answers wrongly; the message says how."""


@dataclass(frozen=True)
class Serving:
    """A peer that serves at `address`; its processes are `tree`, the request of the load lies in `body`."""

    name: str
    address: str
    wire: Wire
    tree: ProcessTree
    body: Path

    def cpu(self) -> float:
        """Returns the CPU seconds that all of its processes have used."""
        return self.tree.cpu()

    def h2load(self, in_flight: int, seconds: float) -> list[str]:
        """Returns the command, `h2load` first, that keeps `in_flight` requests in flight for that long."""
        return ["h2load", "-D", f"{seconds * 1000:.0f}ms", *self.wire.load(self.address, self.body, in_flight)]

    def check(self) -> None:
        """Asks for the logits of two rows. Raises PeerError when an answer is missing or wrong."""
        for seed in (0, 1):
            x = features(seed)
            try:
                answer = self.wire.ask(self.address, x, PATIENCE)
            except WireError as error:
                raise PeerError(f"{self.name} does not answer: {error}") from error
            expected = mlp.predict(x)[0]
            if answer.shape != expected.shape or not np.allclose(answer, expected, atol=1e-4):
                raise PeerError(f"{self.name} answers {answer}, expected {expected}")


@dataclass(frozen=True)
class Peer:
    """A peer: `name` is its folder here, with `requirements.txt` and `serve.py`, which is given its port and four
    free ones; `variables` are set in its environment, with `{ports[1]}`, the second of those, and `{folder}`, its own
    temporary one, filled in. `group` says which goal it belongs to.
    """

    name: str
    group: Group
    wire: Wire
    variables: Mapping[str, str] = field(default_factory=dict)

    def prepare(self) -> str | None:
        """Installs the peer if need be, which may take minutes. Returns why it is absent, or None when it is here."""
        try:
            self._environment.prepare()
        except InstallError as error:
            return f"not installed: {error}"
        return None

    @contextmanager
    def serve(self) -> Iterator[Serving]:
        """Runs the prepared peer until the block ends; it answers rightly when the block begins. Raises PeerError."""
        with ExitStack() as stack:
            folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="peer-", ignore_cleanup_errors=True)))
            (folder / "body").write_bytes(self.wire.body(features(0)))
            ports = free_ports(5)
            log = stack.enter_context((folder / "log").open("w+"))
            child = self._start(folder, ports, log.fileno())
            tree = ProcessTree(child.pid)
            stack.callback(tree.end)
            serving = Serving(self.name, f"127.0.0.1:{ports[0]}", self.wire, tree, folder / "body")
            try:
                await_answer(child, serving)
            except PeerError as error:
                raise PeerError(f"{error}; {reason((folder / 'log').read_text(errors='replace'))}") from error
            yield serving

    @property
    def _environment(self) -> Environment:
        return Environment(self.name, HERE / self.name / "requirements.txt")

    def _start(self, folder: Path, ports: list[int], log: int) -> "subprocess.Popen[bytes]":
        python = self._environment.python
        inherited = {key: value for key, value in os.environ.items() if not key.startswith(("PYTHON", "VIRTUAL"))}
        variables = {
            **inherited,
            "PATH": f"{python.parent}{os.pathsep}{os.environ['PATH']}",
            "PYTHONPATH": str(HERE / "model"),
            "OMP_NUM_THREADS": "1",
            "TMPDIR": str(folder),
            **{key: value.format(ports=ports, folder=folder) for key, value in self.variables.items()},
        }
        command = [str(python), str(HERE / self.name / "serve.py"), *map(str, ports)]
        return subprocess.Popen(
            command, cwd=folder, env=variables, stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True
        )


def await_answer(child: "subprocess.Popen[bytes]", serving: Serving) -> None:
    """Returns when the peer answers rightly. Raises PeerError when it ends before, or has not after START seconds."""
    until = time.monotonic() + START
    while True:
        if child.poll() is not None:
            raise PeerError(f"{serving.name} ended with status {child.returncode} at its start")
        try:
            serving.check()
        except PeerError:
            if time.monotonic() > until:
                raise
            time.sleep(0.2)
        else:
            return


def features(seed: int) -> Array:
    """Returns a row of features, float32 [1, 64], each a thousandth so that JSON carries it exactly."""
    thousandths = np.random.default_rng(seed).integers(-999, 1000, (1, mlp.FEATURES))
    return (thousandths / 1000).astype(np.float32)


def free_ports(count: int) -> list[int]:
    """Returns different ports that were free a moment ago."""
    with ExitStack() as stack:
        ports = []
        for _ in range(count):
            probe = stack.enter_context(socket.socket())
            probe.bind(("127.0.0.1", 0))
            ports.append(probe.getsockname()[1])
        return ports
