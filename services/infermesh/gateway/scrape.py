"""The app's metrics, as the supervisor shows them at `metrics_listen`. Used by `main`."""

import urllib.request
from collections.abc import Iterable
from typing import Final

import structlog
from prometheus_client.core import Metric
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector

_TIMEOUT: Final = 5.0
_OWN: Final = ("process_", "python_")  # of the supervisor's own process, which tells them itself


class AppMetrics(Collector):
    """Asks the app inside Envoy at every scrape: that is where calls are counted.

    `taken` are families that the supervisor has of its own. While the app does not answer there is nothing to show.
    """

    def __init__(self, address: str, taken: Iterable[str]) -> None:
        self._address = address
        self._taken = frozenset(taken)

    def collect(self) -> Iterable[Metric]:
        """Returns the app's families. Blocks; called on the thread of the scrape."""
        try:
            with urllib.request.urlopen(f"http://{self._address}/metrics", timeout=_TIMEOUT) as reply:
                text = reply.read().decode()
        except OSError as error:
            structlog.get_logger(__name__).warning("the app's metrics can't be had", error=str(error))
            return []
        families = text_string_to_metric_families(text)
        return [family for family in families if not family.name.startswith(_OWN) and family.name not in self._taken]
