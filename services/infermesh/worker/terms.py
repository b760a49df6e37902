"""What gateways are told of a version that changes slowly: how many calls it takes, how long its runs are. Pure."""

from dataclasses import dataclass
from typing import Final

from infermesh.worker.batcher import MARGIN
from infermesh.worker.service_time import ServiceTime

_HIDDEN: Final = 0.002  # seconds of work that gateways may send ahead where single calls are quick


@dataclass(frozen=True, slots=True)
class Terms:
    """The terms of now, of calls that go in batches; times are whole microseconds."""

    credit: int
    """Calls that all gateways together may have here: two largest good batches, or a little more of quick ones."""
    service_us: int
    """Time that one more row takes, in a batch of the best size."""
    batch_us: int
    """Time that a batch of the best size hardly ever exceeds, until its callers have their answers."""
    single_us: int
    """The same of a single row; 0 while nothing was measured."""


def terms_of(time: ServiceTime, limit: int, rows_per_call: float) -> Terms:
    """Returns the terms of a model whose runs take this `time`; `limit` is the most rows of a batch."""
    best, one = best_rows(time, limit), time.seconds(1)
    quick = 16 if one * 16 <= _HIDDEN else int(_HIDDEN / one)
    largest, single = min(time.worth_trying(), limit or 1), time.safe(1)
    return Terms(
        credit=max(1, quick, round(2 * largest / rows_per_call)),
        service_us=max(1, int(time.seconds(best) / best * 1e6)),
        batch_us=int((time.safe(best) + MARGIN) * 1e6),
        single_us=int((single + MARGIN) * 1e6) if single else 0,
    )


def best_rows(time: ServiceTime, limit: int) -> int:
    """Returns the rows of a batch beyond which larger ones gain little."""
    return min(time.best_rows(), limit or 1)
