"""The seam of the front ends: one protocol each, over one core. Built by `app`, which mounts what they give."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import grpc.aio
from prometheus_client import CollectorRegistry
from starlette.routing import BaseRoute

from infermesh.gateway.framing.guard import Guard
from infermesh.gateway.framing.methods import Methods
from infermesh.mesh.health import Health

if TYPE_CHECKING:
    from infermesh.gateway.core import Core


@dataclass(frozen=True)
class Parts:
    """What a front end may use. It owns none of it."""

    core: Core
    """Routes and the dispatcher."""
    registry: grpc.aio.Channel
    """The way to the registry."""
    scheduler: grpc.aio.Channel
    """The way to the scheduler."""
    workers: Callable[[str], grpc.aio.Channel]
    """Gives the way to a worker by its address (host:port); for metadata calls, not for inference."""
    health: Health
    """What the public health service says."""
    metrics: CollectorRegistry
    """The metrics of the app's process."""
    services: Callable[[], Collection[str]]
    """Gives the names of all mounted gRPC services; only once everything is mounted."""
    on_close: Callable[[Callable[[], None]], None]
    """Takes what is to be called when the gateway begins to drain: streams that may be idle end then."""
    guard: Guard
    """What requests may take."""


class Frontend(Protocol):
    """One protocol. Both methods are pure and called once."""

    def methods(self) -> Methods:
        """Returns the gRPC methods by path."""
        ...

    def routes(self) -> Sequence[BaseRoute]:
        """Returns the HTTP routes; no two front ends may claim one path."""
        ...


Factory = Callable[[Parts], Frontend]
