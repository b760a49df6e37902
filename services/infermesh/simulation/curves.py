"""How long models take: seconds by rows of a batch, t(b). Measured with torch, one thread of an x86 core."""

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from infermesh.errors import InvalidInput


@dataclass(frozen=True, slots=True)
class Curve:
    """A table of batch times; lines between its points, in proportion beyond the last."""

    points: tuple[tuple[int, float], ...]
    """Rows and seconds, by rising rows."""

    def seconds(self, rows: int) -> float:
        """Returns the time of a batch."""
        at = bisect_left(self.points, (rows, 0.0))
        if at == len(self.points):
            last, seconds = self.points[-1]
            return seconds * rows / last
        high, above = self.points[at]
        if at == 0:
            return above
        low, below = self.points[at - 1]
        return below + (above - below) * (rows - low) / (high - low)

    def table(self, limit: int) -> list[float]:
        """Returns the times of 0, 1, … `limit` rows; that of 0 rows is 0."""
        return [0.0, *(self.seconds(rows) for rows in range(1, limit + 1))]

    def throughput(self, limit: int) -> float:
        """Returns the most rows a second that batches of at most `limit` rows can reach."""
        return max(rows / self.seconds(rows) for rows in range(1, limit + 1))

    def scaled(self, factor: float) -> "Curve":
        """Returns the curve of something that takes `factor` times as long."""
        return Curve(tuple((rows, seconds * factor) for rows, seconds in self.points))


CURVES: Final = {
    # a ranker: dense layers 512 → 1024 → 1024 → 256
    "ranker": Curve(
        ((1, 0.60e-3), (2, 0.70e-3), (4, 0.82e-3), (8, 0.95e-3), (16, 1.40e-3), (32, 2.10e-3), (64, 3.50e-3))
    ),
    # a picture classifier: six convolutions of 32 channels on 32 x 32 pixels
    "picture": Curve(((1, 2.5e-3), (2, 3.2e-3), (4, 5.6e-3), (8, 10.8e-3), (16, 21.0e-3), (32, 41.5e-3))),
    # an encoder: six transformer layers of 384 on 32 tokens
    "encoder": Curve(((1, 14.5e-3), (2, 19.9e-3), (4, 34.0e-3), (8, 66.0e-3), (16, 131.0e-3))),
}


def parse(text: str) -> Curve:
    """Returns the named curve, or the one in `rows:seconds,rows:seconds,…`. Raises InvalidInput."""
    if text in CURVES:
        return CURVES[text]
    try:
        pairs = [part.split(":") for part in text.split(",")]
        points = tuple((int(rows), float(seconds)) for rows, seconds in pairs)
    except ValueError:
        points = ()
    if not _usable(points):
        names = ", ".join(CURVES)
        raise InvalidInput(f"curve '{text}': expected {names}, or rising rows and seconds like 1:0.004,8:0.010")
    return Curve(points)


def _usable(points: Sequence[tuple[int, float]]) -> bool:
    rising = all(a[0] < b[0] and a[1] <= b[1] for a, b in pairwise(points))
    return bool(points) and rising and points[0][0] >= 1 and points[0][1] > 0
