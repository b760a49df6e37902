"""The app's metrics, as the supervisor shows them at `metrics_listen`: over a unix socket in their private folder.

`AppMetrics` is the supervisor's end, `offered` the app's; the public port may want certificates of who asks.
"""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Iterable
from pathlib import Path
from typing import Final

import structlog
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

FILE: Final = "metrics.sock"
"""Name of the socket in their folder."""
_TIMEOUT: Final = 5.0
_OWN: Final = ("process_", "python_")  # of the supervisor's own process, which tells them itself


class AppMetrics(Collector):
    """Asks the app inside Envoy at every scrape: that is where calls are counted.

    `taken` are families that the supervisor has of its own. While the app does not answer there is nothing to show.
    """

    def __init__(self, path: Path, taken: Iterable[str]) -> None:
        self._path = path
        self._taken = frozenset(taken)

    def collect(self) -> Iterable[Metric]:
        """Returns the app's families. Blocks; called on the thread of the scrape."""
        try:
            with socket.socket(socket.AF_UNIX) as line:
                line.settimeout(_TIMEOUT)
                line.connect(str(self._path))
                with line.makefile("rb") as reply:
                    text = reply.read().decode()
        except OSError as error:
            structlog.get_logger(__name__).warning("the app's metrics can't be had", error=str(error))
            return []
        families = text_string_to_metric_families(text)
        return [family for family in families if not family.name.startswith(_OWN) and family.name not in self._taken]


@contextlib.asynccontextmanager
async def offered(path: Path, registry: CollectorRegistry) -> AsyncIterator[None]:
    """Gives all of `registry` to whoever connects, while the context is open."""

    async def give(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(generate_latest(registry))
        with contextlib.suppress(OSError):  # gone before it had read all
            await writer.drain()
        writer.close()

    server = await asyncio.start_unix_server(give, str(path))
    try:
        yield
    finally:
        server.close()
