"""What is measured against a goal. Pure."""

import math
from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Row:
    """A figure and its goal, as multiples (`unit` "x") or shares ("%", of 1). A goal of NaN: there is none, the figure
    is there to compare others with.

    `low` and `high` are the least and greatest of the pairs behind the median `value`; a `noisy` one was measured while
    the base itself moved by more than 20 %. `note` says what the figures behind it were.
    """

    name: str
    value: float
    goal: float
    at_most: bool
    low: float = math.nan
    high: float = math.nan
    unit: str = "x"
    noisy: bool = False
    note: str = ""

    @property
    def ok(self) -> bool:
        """True if the goal is reached, or there is none."""
        if math.isnan(self.goal):
            return True
        return self.value <= self.goal if self.at_most else self.value >= self.goal

    @property
    def target(self) -> str:
        """The goal as text; `-` if there is none."""
        if math.isnan(self.goal):
            return "-"
        return f"{'<=' if self.at_most else '>='}{self.text(self.goal)}"

    @property
    def spread(self) -> str:
        """Least and greatest of the pairs as text; empty if there are none."""
        return "" if math.isnan(self.low) else f"{self.text(self.low)}-{self.text(self.high)}"

    @property
    def verdict(self) -> str:
        """`ok` or `short`; `-` without a goal."""
        if math.isnan(self.goal):
            return "-"
        return "ok" if self.ok else "short"

    def text(self, value: float) -> str:
        """Returns a value in the row's unit."""
        return f"{100 * value:.1f}%" if self.unit == "%" else f"{value:.2f}x"

    def __str__(self) -> str:
        return f"{self.name} {self.text(self.value)} {self.target} {self.verdict}{' noisy' if self.noisy else ''}"


@dataclass(frozen=True)
class Absent:
    """Something that could not be measured here, and why."""

    name: str
    why: str

    def __str__(self) -> str:
        return f"{self.name} absent: {self.why}"


def table(rows: Sequence[Row], absent: Sequence[Absent]) -> str:
    """Returns the rows as a table in Markdown, and what is absent as a list."""
    lines = ["| row | value | goal | | range of the pairs | |", "|---|---|---|---|---|---|"]
    for row in rows:
        noisy = "noisy; " if row.noisy else ""
        cells = (row.name, f"**{row.text(row.value)}**", row.target, row.verdict, row.spread, noisy + row.note)
        lines.append(f"| {' | '.join(cells)} |")
    if absent:
        lines += ["", "Absent:", "", *(f"- {item.name}: {item.why}" for item in absent)]
    return "\n".join(lines)
