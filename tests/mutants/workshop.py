"""A copy of product and tests in which faults can be planted and the tests be run."""

import json
import os
import shutil
import subprocess
import sys
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.mutants.mutant import Mutant

_ROOT: Final = Path(__file__).resolve().parents[2]
_PARTS: Final = ("services", "tests", "examples", "pyproject.toml")
_ARGUMENTS: Final = (
    *("-x", "-q", "-p", "no:xdist", "-p", "no:cov", "-p", "no:cacheprovider"),
    *("-W", "ignore::pytest.PytestAssertRewriteWarning"),  # plugins were imported before the fork
)
_PASSED, _FAILED = 0, 1


@dataclass(frozen=True)
class Outcome:
    """How a test run ended: pytest's status, or None if it hung, and what it printed."""

    status: int | None
    output: str

    @property
    def passed(self) -> bool:
        """Tells whether every test passed."""
        return self.status == _PASSED

    @property
    def failed(self) -> bool:
        """Tells whether a test failed; a run that broke down or hung has told nothing."""
        return self.status == _FAILED and "\nFAILED " in self.output


class Workshop:
    """A context manager over the copy, which lies in `folder`. Not for several runs at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._package = folder / "services" / "infermesh"

    def __enter__(self) -> "Workshop":
        for part in _PARTS:
            source, target = _ROOT / part, self._folder / part
            if source.is_dir():
                shutil.copytree(source, target)  # with times, so that what is compiled stays good
            else:
                shutil.copy2(source, target)
        path = os.pathsep.join((str(self._folder / "services"), str(self._folder)))
        self._zygote = subprocess.Popen(
            [sys.executable, "-m", "tests.mutants.zygote"],
            cwd=self._folder,
            env={**os.environ, "PYTHONPATH": path, "PYTHONDONTWRITEBYTECODE": "1"},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        return self

    def __exit__(self, *_: object) -> None:
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        self._zygote.stdin.close()
        self._zygote.wait(10)
        self._zygote.stdout.close()

    def run(self, tests: tuple[str, ...], mutant: Mutant | None = None, seconds: float = 60.0) -> Outcome:
        """Runs tests until the first fails, with a fault planted or without. Raises Misplaced."""
        assert self._zygote.stdin is not None
        assert self._zygote.stdout is not None
        log = self._folder / "log"
        arguments = [*_ARGUMENTS, "-o", f"timeout={seconds / 3:.0f}", *tests]
        order = {"arguments": arguments, "log": str(log), "seconds": seconds}
        with nullcontext() if mutant is None else mutant.planted(self._package):
            self._zygote.stdin.write(json.dumps(order) + "\n")
            self._zygote.stdin.flush()
            answer = self._zygote.stdout.readline()
        return Outcome(json.loads(answer), log.read_text(errors="replace"))
