"""What a planted fault is, and how it gets into a copy of the product."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path


class Misplaced(Exception):
    """The text that a fault replaces is not there, or not just once: the table has to follow the code."""


@dataclass(frozen=True)
class Mutant:
    """One fault: in `file` (below the package) `new` stands instead of `old`, and one of `tests` must fail.

    `breaks` says in a sentence what no longer holds. A `slow` one is left to `make mutants`: only real processes
    notice it, or others stand for it in the suite.
    """

    name: str
    file: str
    old: str
    new: str
    tests: tuple[str, ...]
    breaks: str
    slow: bool = False

    def mutated(self, package: Path) -> str:
        """Returns the text of the file with the fault. Raises Misplaced."""
        text = (package / self.file).read_text()
        if text.count(self.old) != 1:
            raise Misplaced(f"{self.name}: {self.file} has {text.count(self.old)} times, instead of once:\n{self.old}")
        return text.replace(self.old, self.new)

    @contextmanager
    def planted(self, package: Path) -> Iterator[None]:
        """Has the fault in the package for as long as the block lasts. Raises Misplaced."""
        path = package / self.file
        text, stat, mutated = path.read_text(), path.stat(), self.mutated(package)
        path.write_text(mutated)
        os.utime(path, (stat.st_atime, stat.st_mtime + 60))  # whatever is compiled of it is out of date
        try:
            yield
        finally:
            path.write_text(text)
            os.utime(path, (stat.st_atime, stat.st_mtime))
