"""The core of the gateway, put together: routes, workers and the dispatcher. `main` builds it, front ends use it."""

from infermesh.gateway.dispatch import Dispatcher
from infermesh.gateway.routes import RouteTable


class Core:
    """Lives from `start` to `stop`; both are called once, in the same event loop."""

    routes: RouteTable
    dispatcher: Dispatcher

    async def start(self) -> None:
        """Starts watching the routes and connecting to workers; returns at once."""

    async def stop(self) -> None:
        """Ends every stream; calls that are still under way fail with WorkerLost. Drain first."""

    def connected(self) -> bool:
        """Tells whether there are routes, live or last known."""
        return self.routes.snapshot is not None
