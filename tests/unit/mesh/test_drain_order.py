"""The order in which a process stops: it says NOT_SERVING first, and is still there for a while."""

import asyncio
import os
import signal

from infermesh.mesh.config import DrainConfig, ProcessConfig
from infermesh.mesh.health import LIVENESS
from infermesh.mesh.process import Process


async def test_not_serving_comes_before_the_lame_duck_time() -> None:
    async with Process("gateway", ProcessConfig(drain=DrainConfig(lame_duck=0.05))) as process:
        process.serving()
        stopped = asyncio.create_task(process.until_stopped())
        os.kill(os.getpid(), signal.SIGTERM)
        await process.until_told()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not process.health.serving()
        assert process.health.serving(LIVENESS)
        assert not stopped.done()
        process.serving()  # too late: once told to stop, a process never serves again
        assert not process.health.serving()
        await stopped
