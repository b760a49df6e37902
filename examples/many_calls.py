"""Thousands of calls at once with the asynchronous client. Run `wine_torch.py` first."""

import asyncio
import os
import time
from collections import Counter

import numpy as np

from infermesh import errors
from infermesh.client import AsyncClient

ADDRESS = os.environ.get("INFERMESH_ADDRESS", "127.0.0.1:8080")
CALLS, AT_ONCE = 2_000, 64


async def main() -> None:
    """Sends calls, at most AT_ONCE under way, each with a deadline of its own."""
    rows = np.random.default_rng(0).normal(10, 5, (CALLS, 1, 13)).astype(np.float32)
    outcomes: Counter[str] = Counter()
    slots = asyncio.Semaphore(AT_ONCE)

    async with AsyncClient(ADDRESS) as client:

        async def call(row: np.ndarray) -> None:
            async with slots:
                try:
                    result = await client.infer("wine", {"wine": row}, timeout=5)
                    outcomes[f"cultivar {result['scores'].argmax()}"] += 1
                except (errors.Overloaded, errors.DeadlineExceeded) as error:
                    outcomes[error.reason] += 1

        begun = time.perf_counter()
        async with asyncio.TaskGroup() as group:
            for row in rows:
                group.create_task(call(row))
        print(f"{CALLS / (time.perf_counter() - begun):.0f} calls/s:", dict(sorted(outcomes.items())))

        try:  # errors say which tensor, what was expected and what came
            await client.infer("wine", {"wine": np.zeros((1, 12), np.float32)})
        except errors.BadTensor as error:
            print(error)


if __name__ == "__main__":
    asyncio.run(main())
