"""When calls are due: arrival processes. Pure."""

from enum import StrEnum
from typing import Final

import numpy as np
import numpy.typing as npt

BURSTY_CV: Final = 4.0


class Arrivals(StrEnum):
    """How calls arrive.

    `poisson`: independent of each other, as from many users. `bursty`: gamma-distributed gaps with a coefficient of
    variation of 4, long silences and then many at once. `closed`: each caller sends its next call when it has the
    answer to the last; what this measures is throughput, since a slow server is asked less.
    """

    poisson = "poisson"
    bursty = "bursty"
    closed = "closed"


def schedule(kind: Arrivals, rate: float, duration: float, seed: int) -> npt.NDArray[np.float64]:
    """Returns when calls are due: seconds, ascending, in [0, duration), on average `rate` of them in each.

    The same arguments give the same times. Raises ValueError for `closed`, which has none.
    """
    if kind is Arrivals.closed:
        raise ValueError("closed arrivals follow the answers and have no schedule")
    rng = np.random.default_rng(seed)
    # an exponential is the gamma of shape 1: a gap of mean 1/rate whose standard deviation is cv/rate
    cv = BURSTY_CV if kind is Arrivals.bursty else 1.0
    pieces: list[npt.NDArray[np.float64]] = []
    last = 0.0
    while last < duration:
        gaps = rng.gamma(1.0 / cv**2, cv**2 / rate, size=max(16, int(rate * duration * 1.1)))
        pieces.append(last + np.cumsum(gaps))
        last = float(pieces[-1][-1])
    times = np.concatenate(pieces)
    return times[times < duration]
