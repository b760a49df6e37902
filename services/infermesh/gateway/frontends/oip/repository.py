"""The model repository extension: what there is, and loading and unloading it.

A model of the registry is loaded by a deployment of its latest version whose id is the model's.
"""

import asyncio
from collections.abc import Callable
from typing import Final

import grpc.aio
from google.longrunning import operations_pb2

from infermesh import names
from infermesh.errors import DeadlineExceeded, NotFound, NotReady
from infermesh.gateway.frontends.oip import describe
from infermesh.gateway.frontends.oip.registry import Registry
from infermesh.gateway.routes import RouteTable
from infermesh.mesh import status
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import deployment_pb2

_Entry = oip.RepositoryIndexResponse.ModelIndex

_WAIT: Final = 10.0
_LOAD_TIMEOUT: Final = 600.0
_LOOK_AGAIN: Final = 0.05


class Repository:
    """Asks the registry, and the routes for the state of things."""

    def __init__(self, routes: RouteTable, registry: grpc.aio.Channel) -> None:
        self._routes = routes
        self._registry = Registry(registry)

    async def index(self, only_ready: bool) -> oip.RepositoryIndexResponse:
        """Returns every version of every deployment, and the versions of models that nothing deploys.

        While the registry is away: what the routes know.
        """
        snapshot = self._routes.snapshot
        routes = () if snapshot is None else snapshot.deployments
        entries: dict[tuple[str, str], _Entry] = {}
        for route in routes:
            entries.update({(entry.name, entry.version): entry for entry in describe.index(route)})
        if not only_ready:
            try:
                async for name, version in self._registry.versions():
                    missing = _Entry(name=name, version=version, state="UNAVAILABLE", reason="not deployed")
                    entries.setdefault((name, version), missing)
            except NotReady:
                pass  # the registry is away: data plane first
        chosen: list[_Entry] = [entry for entry in entries.values() if entry.state == "READY" or not only_ready]
        chosen.sort(key=lambda entry: (entry.name, int(entry.version)))
        return oip.RepositoryIndexResponse(models=chosen)

    async def load(self, model: str, timeout: float | None) -> None:
        """Deploys the latest version of a model and waits until it answers here. `timeout` is in seconds.

        Raises NotFound, LoadFailed with the reason, DeadlineExceeded, and what the registry raises.
        """
        names.check_id("model", model)
        loop = asyncio.get_running_loop()
        until = loop.time() + (_LOAD_TIMEOUT if timeout is None else timeout)
        operation = await self._registry.deploy(model)
        while not operation.done:
            left = until - loop.time()
            if left <= 0:
                raise DeadlineExceeded(f"model '{model}' is still loading: ask for its readiness")
            operation = await self._registry.wait(operation.name, min(left, _WAIT))
        if operation.WhichOneof("result") == "error":
            raise status.from_status(operation.error)
        await self._until(lambda: self._answers(model, operation), until)

    async def unload(self, model: str, timeout: float | None) -> None:
        """Deletes the deployment of a model and waits until it no longer answers here. Raises NotFound."""
        names.check_id("model", model)
        await self._registry.delete(model)
        loop = asyncio.get_running_loop()
        until = loop.time() + (_WAIT if timeout is None else min(timeout, _WAIT))
        await self._until(lambda: model not in self._routes.routes, until)

    def _answers(self, model: str, operation: operations_pb2.Operation) -> bool:
        deployment = deployment_pb2.Deployment()
        operation.response.Unpack(deployment)
        wanted = {version.version for version in deployment.versions if version.ready_replicas}
        try:
            answering = self._routes.version(model, "").version
        except (NotFound, NotReady):
            return False
        return not wanted or answering in wanted

    async def _until(self, done: Callable[[], bool], until: float) -> None:
        """Waits until the routes here have caught up with the registry, or time is up."""
        loop = asyncio.get_running_loop()
        while not done() and loop.time() < until:  # noqa: ASYNC110  # snapshots come when they come
            await asyncio.sleep(_LOOK_AGAIN)
