"""Learns how long a batch takes, by its rows: t(b). Pure; used by the batch planner and for the credit of gateways."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterable

_WEIGHT = 0.2  # of a new measurement in the moving average
_SPREAD_WEIGHT = 0.02  # the same, of the deviation: it is what promises rest on, and must not jump
_CAUTION = 3.5  # standard deviations that a promise leaves room for
_FIRST_SPREAD = 0.03  # relative standard deviation before anything was seen
_MOST_CAUTIOUS = 3.0  # times the expected time
_LOOK = 16  # runs after which the best size is looked for anew; it is asked for much more often than it moves
_STALLED = 2.0  # times the safe time: a run that took longer was held up
_MISHAPS = 2  # such runs in a row that are not learnt from
_TRUSTED = 16  # refusals in a row that a curve is believed
_NEARLY = 0.98  # of the best throughput
_PAYS = 1.1  # times the throughput of the size before: worth trying the next
_BRIEF = 0.25  # seconds of a run after which the next size is tried anyway
_AS_GOOD = 0.95  # of the best throughput: of sizes that were tried in that way, the largest is best


class ServiceTime:
    """A monotone, piecewise linear curve through moving averages at 1, 2, 4, … rows, and how far runs stray from it.

    It begins with the times measured at warm-up and follows what is observed. Sizes beyond the largest that ever ran
    are taken to need time in proportion. Without any measurement every time is 0, which makes the planner take whatever
    is there.
    """

    def __init__(self, measured: Iterable[tuple[int, float]] = (), limit: int = 1) -> None:
        """`measured` are pairs of rows and seconds; `limit` is the most rows of a batch (0 or 1: no batches)."""
        self._limit = max(1, limit)
        self._knots = _knots(self._limit)
        self._means: list[float] = [0.0] * len(self._knots)
        self._curve = list(self._means)
        self._variance = _FIRST_SPREAD**2
        self._caution = 1 + _CAUTION * _FIRST_SPREAD
        self._refused = self._stalls = self._seen = 0
        self._best: dict[float, int] = {}
        self.revision = 0
        """Differs after a few runs: until then what is told of the curve need not be told anew."""
        self._tried = 0  # knots up to the largest that ever ran
        known = sorted((max(1, rows), seconds) for rows, seconds in measured)
        if known:
            self._means = [_interpolate([r for r, _ in known], [s for _, s in known], knot) for knot in self._knots]
            self._tried = bisect_right(self._knots, known[-1][0])
            self._smooth()
        self._warm = self._tried  # of those the warm-up has tried

    def seconds(self, rows: int) -> float:
        """Returns the expected time of a batch of `rows`."""
        return _interpolate(self._knots, self._curve, rows)

    def safe(self, rows: int) -> float:
        """Returns a time that a batch of `rows` hardly ever exceeds."""
        return self.seconds(rows) * self._caution

    def needed(self, rows: int) -> float:
        """Returns the time below which a call of `rows` is refused: `safe`, less once too much was refused in a row."""
        return self.seconds(rows) * self._caution * min(1.0, 0.9 ** (self._refused - _TRUSTED))

    def rows_within(self, seconds: float) -> int:
        """Returns the most rows (up to the limit) whose safe time is at most `seconds`; 0 if not even one."""
        seconds /= self._caution
        curve, knots = self._curve, self._knots
        if curve[-1] <= seconds:
            return self._limit
        if curve[0] > seconds:
            return 0
        # curve is monotone: the last knot that still fits, and then along the line to the next
        at = next(i for i in range(len(curve) - 1) if curve[i + 1] > seconds)
        share = (seconds - curve[at]) / (curve[at + 1] - curve[at])
        return knots[at] + int((knots[at + 1] - knots[at]) * share)

    def best_rows(self, share: float = 0.9) -> int:
        """Returns the smallest knot that reaches a share of the best throughput: larger batches gain little more."""
        known = self._best.get(share)
        if known is None:
            rates = [rows / seconds if seconds else 0.0 for rows, seconds in zip(self._knots, self._curve, strict=True)]
            if not max(rates):
                return min(self._limit, 8)
            enough = share * max(rates)
            known = next(rows for rows, rate in zip(self._knots, rates, strict=True) if rate >= enough)
            self._best[share] = known
        return known

    def worth_trying(self) -> int:
        """Returns the rows of a batch that is nearly as good as any; the next knot where larger ones paid as far as
        any ran: the warm-up of a slow model has no time for more than its first sizes, the rest is learnt under load.

        What a batch costs beside its run, in answers that have to be sent while the next one wants all cores, a warm-up
        does not tell: where runs are brief, larger ones are tried in any case, and the largest good one is taken.
        """
        tried = self._tried
        if 0 < tried < len(self._knots):
            paid = tried == 1 or self._pace(tried - 1) >= _PAYS * self._pace(tried - 2)
            if paid or self._curve[tried - 1] < _BRIEF:
                return self._knots[tried]
        good = _AS_GOOD * self.rate()
        learnt = range(self._warm, tried)
        brief = (self._knots[at] for at in learnt if self._curve[at] < 2 * _BRIEF and self._pace(at) >= good)
        return max(self.best_rows(_NEARLY), *brief, 0)

    def _pace(self, at: int) -> float:
        return self._knots[at] / self._curve[at] if self._curve[at] else 0.0

    def rate(self) -> float:
        """Returns the most rows a second that batches of any size reach; 0 while nothing is known."""
        return max(rows / seconds if seconds else 0.0 for rows, seconds in zip(self._knots, self._curve, strict=True))

    def observe(self, rows: int, seconds: float) -> None:
        """Takes in that a batch of `rows` took `seconds`."""
        self._refused = 0
        self._seen += 1
        if self._seen % _LOOK == 0 or self._seen < _LOOK:
            self._best.clear()
            self.revision += 1
        expected = self.seconds(rows)
        if self._tried and rows > self._knots[self._tried - 1]:
            self._try(rows, min(seconds, expected))
            return
        if expected > 0:
            if seconds > _STALLED * expected * self._caution and self._stalls < _MISHAPS:
                self._stalls += 1  # a mishap says nothing of the next run; many in a row do
                return
            self._stalls = 0
            self._stray(seconds / expected - 1)
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

    def _try(self, rows: int, seconds: float) -> None:
        """Takes in the first run of a size; one that took longer than in proportion was held up by something else."""
        at = min(bisect_left(self._knots, rows), len(self._knots) - 1)
        self._tried = at + 1
        self.revision += 1
        for knot in range(at, len(self._knots)):
            self._means[knot] = seconds * self._knots[knot] / rows
        for below in range(at):
            self._means[below] = min(self._means[below], self._means[at])
        self._smooth()

    def doubt(self) -> None:
        """Call it whenever work was refused because of the curve.

        Refused work is never measured; without doubt a wrong curve could refuse everything for ever.
        """
        self._refused += 1

    def _stray(self, error: float) -> None:
        # one run that is far out is no reason to distrust every run: it counts as if it were just outside
        most = 0.001 + 9 * self._variance
        self._variance += _SPREAD_WEIGHT * (min(error * error, most) - self._variance)
        self._caution = min(_MOST_CAUTIOUS, 1 + _CAUTION * self._variance**0.5)

    def _mix(self, at: int, seconds: float, weight: float) -> None:
        known = self._means[at]
        self._means[at] = mean = max(0.0, known + weight * (seconds - known)) if known else max(0.0, seconds)
        for below in range(at):  # fewer rows never take longer: what was learnt long ago must not say so
            if self._means[below] > mean:
                self._means[below] += weight * (mean - self._means[below])

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
