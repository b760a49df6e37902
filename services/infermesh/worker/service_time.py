"""Learns how long a batch takes, by its rows: t(b). Pure; used by the batch planner and for the credit of gateways."""

from bisect import bisect_left
from collections.abc import Iterable

_WEIGHT = 0.2  # of a new measurement in the moving average
_RECOVERY = 0.02  # how quickly the luckiest run is forgotten


class ServiceTime:
    """A monotone, piecewise linear curve through moving averages at 1, 2, 4, … rows.

    It begins with the times measured at warm-up and follows what is observed. Without any measurement every time is 0,
    which makes the planner take whatever is there.
    """

    def __init__(self, measured: Iterable[tuple[int, float]] = (), limit: int = 1) -> None:
        """`measured` are pairs of rows and seconds; `limit` is the most rows of a batch (0 or 1: no batches)."""
        self._limit = max(1, limit)
        self._knots = _knots(self._limit)
        self._means: list[float] = [0.0] * len(self._knots)
        self._curve = list(self._means)
        self._luck = 0.5  # nothing was run yet: hardly anything is hopeless
        known = sorted((max(1, rows), seconds) for rows, seconds in measured)
        if known:
            self._means = [_interpolate([r for r, _ in known], [s for _, s in known], knot) for knot in self._knots]
            self._smooth()

    def seconds(self, rows: int) -> float:
        """Returns the expected time of a batch of `rows`."""
        return _interpolate(self._knots, self._curve, rows)

    def fastest(self, rows: int) -> float:
        """Returns a time below which a batch of `rows` has not been done lately: less time left is too little."""
        return self.seconds(rows) * self._luck

    def rows_within(self, seconds: float) -> int:
        """Returns the most rows (up to the limit) whose expected time is at most `seconds`; 0 if not even one."""
        curve, knots = self._curve, self._knots
        if curve[-1] <= seconds:
            return self._limit
        if curve[0] > seconds:
            return 0
        # curve is monotone: the last knot that still fits, and then along the line to the next
        at = next(i for i in range(len(curve) - 1) if curve[i + 1] > seconds)
        share = (seconds - curve[at]) / (curve[at + 1] - curve[at])
        return knots[at] + int((knots[at + 1] - knots[at]) * share)

    def best_rows(self) -> int:
        """Returns the smallest knot that reaches nine tenths of the best throughput: larger batches gain little."""
        rates = [rows / seconds if seconds else 0.0 for rows, seconds in zip(self._knots, self._curve, strict=True)]
        best = max(rates)
        if not best:
            return min(self._limit, 8)
        return next(rows for rows, rate in zip(self._knots, rates, strict=True) if rate >= 0.9 * best)

    def observe(self, rows: int, seconds: float) -> None:
        """Takes in that a batch of `rows` took `seconds`."""
        expected = self.seconds(rows)
        if expected > 0:
            self._luck = min(1.0, seconds / expected, self._luck + _RECOVERY * (1 - self._luck))
        at = bisect_left(self._knots, rows)
        if at == len(self._knots) or self._knots[at] == rows or at == 0:
            self._mix(min(at, len(self._knots) - 1), seconds, _WEIGHT)
        else:
            low, high = self._knots[at - 1], self._knots[at]
            share = (rows - low) / (high - low)
            # the error, not the time, is spread over both ends: the slope between them stays
            error = seconds - expected
            self._mix(at - 1, self._means[at - 1] + error, _WEIGHT * (1 - share))
            self._mix(at, self._means[at] + error, _WEIGHT * share)
        self._smooth()

    def doubt(self) -> None:
        """Lowers `fastest` a little. Call it whenever work was refused because of it.

        Refused work is never measured; without doubt a wrong curve could refuse everything for ever.
        """
        self._luck *= 0.9

    def _mix(self, at: int, seconds: float, weight: float) -> None:
        known = self._means[at]
        self._means[at] = max(0.0, known + weight * (seconds - known)) if known else max(0.0, seconds)

    def _smooth(self) -> None:
        highest, curve = 0.0, self._curve
        for at, mean in enumerate(self._means):
            highest = max(highest, mean)
            curve[at] = highest


def _knots(limit: int) -> list[int]:
    knots = [1]
    while knots[-1] * 2 < limit:
        knots.append(knots[-1] * 2)
    return knots if limit == 1 else [*knots, limit]


def _interpolate(xs: list[int], ys: list[float], x: int) -> float:
    at = bisect_left(xs, x)
    if at == len(xs):
        # beyond the last point: in proportion, as nothing better is known
        return ys[-1] * x / xs[-1]
    if at == 0 or xs[at] == x:
        return ys[at]
    share = (x - xs[at - 1]) / (xs[at] - xs[at - 1])
    return ys[at - 1] + share * (ys[at] - ys[at - 1])
