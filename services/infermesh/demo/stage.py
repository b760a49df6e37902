"""What the demo shows: headings, progress, facts, and the claims that it must keep. Knows nothing of meshes."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TypeVar

from rich.console import Console, RenderableType
from rich.padding import Padding
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

T = TypeVar("T")


@dataclass(frozen=True)
class Claim:
    """Something the demo promises, with what was measured."""

    promise: str
    measured: str
    kept: bool


class Stage:
    """Shows the demo on a console and keeps the books of its claims."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._step = 0
        self._claims: list[Claim] = []

    @property
    def colour(self) -> bool:
        """True if the console can show colours."""
        return self._console.color_system is not None

    @property
    def kept(self) -> bool:
        """True if every claim so far was kept."""
        return all(claim.kept for claim in self._claims)

    def heading(self, text: str) -> None:
        """Begins the next step."""
        self._step += 1
        self._console.print(f"\n[bold cyan]{self._step}[/] [bold]{text}[/]")

    def show(self, content: RenderableType) -> None:
        """Shows something below the heading."""
        self._console.print(Padding(content, (0, 0, 0, 2), expand=False), soft_wrap=True)

    def claim(self, promise: str, measured: str, kept: bool) -> None:
        """Notes whether a promise was kept, and shows it."""
        self._claims.append(Claim(promise, measured, kept))
        self.show(f"{_mark(kept)} {promise}: [bold]{measured}[/]")

    def watched(self, items: Iterable[T], text: str, total: int) -> Iterator[T]:
        """Yields the items and shows how many of `total` there were."""
        with self.progress(text, total) as advance:
            for number, item in enumerate(items, 1):
                advance(number)
                yield item

    @contextmanager
    def progress(self, text: str, total: int) -> Iterator[Callable[[int], None]]:
        """Shows a bar; the function that it gives takes how many of `total` are done."""
        columns = (TextColumn("  {task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
        with Progress(*columns, console=self._console, transient=True, disable=not self._console.is_terminal) as bar:
            task = bar.add_task(text, total=total)
            yield lambda done: bar.update(task, completed=done)

    @contextmanager
    def waiting(self, text: str) -> Iterator[None]:
        """Shows that something goes on whose end is not known."""
        with self._console.status(text):
            yield

    def summary(self) -> None:
        """Shows all claims again, at the end."""
        table = Table(title="what was claimed, and what came out", title_justify="left", show_header=False, box=None)
        for claim in self._claims:
            table.add_row(_mark(claim.kept), claim.promise, f"[bold]{claim.measured}[/]")
        self._console.print()
        self._console.print(table)


def _mark(kept: bool) -> str:
    return "[green]✓[/]" if kept else "[red]✗[/]"
