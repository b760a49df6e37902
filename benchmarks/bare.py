"""The encoder alone in a loop: the most rows a second that it does on this machine, without any server.

Usage: python -m benchmarks.bare FILE THREADS

FILE is its exported program. Prints a line when it knows its best batch, then one with rows a second for each line of
seconds that it reads; ends when its input closes.
"""

import sys
import time
from collections.abc import Callable

import numpy as np
import torch

from benchmarks.models import encoder

Forward = Callable[[torch.Tensor], object]


def rows_per_second(forward: Forward, batch: torch.Tensor, seconds: float) -> float:
    """Runs batches one after the other for that long."""
    count, began = 0, time.perf_counter()
    while (took := time.perf_counter() - began) < seconds:
        forward(batch)
        count += len(batch)
    return count / took


def main() -> None:
    """Finds the best of the module and its exported program over batch sizes, then measures it on demand."""
    file, threads = sys.argv[1:]
    torch.set_num_threads(int(threads))
    served = encoder()
    forms: list[Forward] = [served.module.eval(), torch.export.load(file).module()]
    with torch.inference_mode():
        tried = []
        for size in (8, 16, 32, 64, 128):
            batch = torch.from_numpy(np.repeat(served.row, size, axis=0))
            for forward in forms:
                forward(batch)
                tried.append((rows_per_second(forward, batch, 0.7), forward, batch))
        _, forward, batch = max(tried, key=lambda found: found[0])
        print(f"batches of {len(batch)}", flush=True)
        for line in sys.stdin:
            print(rows_per_second(forward, batch, float(line)), flush=True)


if __name__ == "__main__":
    main()
