"""How clients learn that this gateway goes away before their connection does, also those that ask for nothing.

Envoy tells a connection with its next answer, so an idle one would be cut without a word, and with it the request that
is just then on its way. An idle connection that times out, though, is told in the same two steps as the others: GOAWAY
without a last stream, and `DRAIN_TIMEOUT` later the one that names it. So when the drain begins, the time that a
connection may be idle shrinks to nothing: an overload action of Envoy, set off by a file.

Used by `envoy` and `supervisor`.
"""

from pathlib import Path
from typing import Any, Final

FILE: Final = "farewell"
"""Name of the file, beside Envoy's admin socket."""
DRAIN_TIMEOUT: Final = 1.0
"""Seconds between the two GOAWAYs: what a client sends before it has read the first is still answered."""
LONGEST: Final = DRAIN_TIMEOUT + 2.0
"""Seconds after which every client that listens knows: Envoy's look at the file, both GOAWAYs, the delayed close."""
_LOOK: Final = "0.25s"
_IDLE: Final = "0.5s"  # HTTP/1 can't be told but by an answer: who asks again soon gets one
_RESOURCE: Final = "envoy.resource_monitors.injected_resource"
_ACTION: Final = "envoy.overload_actions.reduce_timeouts"


def configure(overload_manager: dict[str, Any], file: Path) -> None:
    """Adds what is needed to the overload manager of a bootstrap."""
    kind = "envoy.extensions.resource_monitors.injected_resource.v3.InjectedResourceConfig"
    monitor = {"name": _RESOURCE, "typed_config": _typed(kind, filename=str(file))}
    factors = [{"timer": "HTTP_DOWNSTREAM_CONNECTION_IDLE", "min_timeout": _IDLE}]
    action = {
        "name": _ACTION,
        "triggers": [{"name": _RESOURCE, "threshold": {"value": 1.0}}],
        "typed_config": _typed("envoy.config.overload.v3.ScaleTimersOverloadActionConfig", timer_scale_factors=factors),
    }
    overload_manager.setdefault("refresh_interval", _LOOK)
    overload_manager.setdefault("resource_monitors", []).append(monitor)
    overload_manager.setdefault("actions", []).append(action)


def prepare(file: Path) -> None:
    """Writes the file as it is until the end; before Envoy starts."""
    file.write_text("0")


def begin(file: Path) -> None:
    """Has every idle connection told."""
    partial = file.with_name(f"{file.name}.partial")
    partial.write_text("1")
    partial.replace(file)  # Envoy watches for files that are moved there


def _typed(kind: str, **fields: Any) -> dict[str, Any]:
    return {"@type": f"type.googleapis.com/{kind}", **fields}
