"""Deployments and workers. Part of `AsyncClient`."""

import uuid
from collections.abc import AsyncIterator, Mapping
from typing import Any, Literal, TypedDict, Unpack

from google.longrunning import operations_pb2

from infermesh import names
from infermesh.client import methods
from infermesh.client.connection import Connection
from infermesh.client.operations import Watcher, finished
from infermesh.errors import AlreadyExists, InvalidInput, NotFound
from infermesh.v1 import (
    deployment_pb2,
    deployment_service_pb2,
    model_service_pb2,
    scheduler_service_pb2,
    worker_pb2,
)


def batching(*, max_batch_size: int = 0, max_delay: float = 0.0, max_queue: int = 0) -> deployment_pb2.Batching:
    """Returns how calls are batched: most rows (0: the version's limit), longest hold (seconds), most waiting calls."""
    result = deployment_pb2.Batching(max_batch_size=max_batch_size, max_queue=max_queue)
    result.max_delay.FromNanoseconds(round(max_delay * 1e9))
    return result


def hedging(budget: float, *, delay: float = 0.0) -> deployment_pb2.Hedging:
    """Returns when slow calls are sent twice: at most the share `budget` of them, after `delay` seconds (0: after the
    time within which all but that share end). A budget of 0 switches it off."""
    result = deployment_pb2.Hedging(budget=budget)
    if delay:
        result.delay.FromNanoseconds(round(delay * 1e9))
    return result


class Settings(TypedDict, total=False):
    """Settings of a deployment; None, as what is not given, leaves a setting as it is."""

    replicas: int | Literal["all"] | None
    """Number of workers that hold each version; `all`: every worker that suits, also those that come later."""
    pool: str | None
    """Pool of the workers that may hold it; empty means every pool."""
    device: str | None
    """`any`, `cpu`, `cuda`, `mps` or `xpu`."""
    policy: str | None
    """How a worker is chosen: `round_robin`, `random`, `least_load`, `weighted` or one added by a plug-in."""
    batching: deployment_pb2.Batching | None
    """How calls are batched: see `batching`."""
    labels: Mapping[str, str] | None
    """Replaces all labels."""
    hedging: deployment_pb2.Hedging | None
    """Sends slow calls twice: see `hedging`. Only for models that take it without harm."""
    single_flight: bool | None
    """Runs the same request once for all who ask for it at the same time. Only for models that take it without harm."""


class DeploymentCalls:
    """Everything about deployments, and the workers that carry them out."""

    _connection: Connection

    async def deploy(
        self,
        deployment: str,
        model: str = "",
        *,
        version: str | int = "",
        traffic: Mapping[str, int] | None = None,
        wait: bool = True,
        timeout: float = 300.0,
        watch: Watcher | None = None,
        **settings: Unpack[Settings],
    ) -> deployment_pb2.Deployment:
        """Creates a deployment, or changes what is given of one that exists, and returns it.

        `model` defaults to the deployment's id. Calls go to `version` (a number, an alias that is followed when it
        moves, or `latest`), or are shared by `traffic`: {version: weight}. A new deployment without either gets the
        newest version there is now. `settings` are keywords that `Settings` describes: `replicas`, `pool`, `device`,
        `policy`, `batching`, `labels`, `hedging` and `single_flight`.

        With `wait` it returns once every version answers calls on every worker that shall hold it, at most `timeout`
        seconds later; `watch` is called with the progress meanwhile. Raises LoadFailed or FailedPrecondition with the
        reason if a version can't be loaded (what served before goes on serving), NotFound, InvalidInput,
        DeadlineExceeded.
        """
        names.check_id("deployment", deployment)
        given = _fields(version, traffic, settings)
        operation = await self._create_or_update(deployment, model, given)
        if wait:
            return await finished(self._connection, operation, deployment, timeout=timeout, watch=watch)
        return await self.get_deployment(deployment)

    async def _create_or_update(
        self, deployment: str, model: str, given: Mapping[str, Any]
    ) -> operations_pb2.Operation:
        try:
            current = await self.get_deployment(deployment)
        except NotFound:
            try:
                return await self._create(deployment, model or deployment, given)
            except AlreadyExists:  # somebody was faster
                current = await self.get_deployment(deployment)
        if model and current.model != names.model_name(model):
            raise InvalidInput(
                f"model: deployment '{deployment}' serves '{current.model}' for ever, got '{names.model_name(model)}': "
                "delete the deployment first, or take another id",
                violations=[("model", "immutable")],
            )
        if given.get("replicas") and current.all_workers:
            given = {**given, "all_workers": False}
        # deploying again without a change is a change of the traffic to what it is: its operation tells how it stands
        given = given or {"traffic": current.traffic}
        request = deployment_service_pb2.UpdateDeploymentRequest(
            deployment=deployment_pb2.Deployment(name=current.name, **given)
        )
        request.update_mask.paths.extend(given)
        return await self._connection.call(methods.UPDATE_DEPLOYMENT, request)

    async def _create(self, deployment: str, model: str, given: Mapping[str, Any]) -> operations_pb2.Operation:
        draft = deployment_pb2.Deployment(model=names.model_name(model), **given)
        if not draft.traffic:
            newest = model_service_pb2.GetModelVersionRequest(name=names.version_name(model, "latest"))
            found = await self._connection.call(methods.GET_VERSION, newest)
            draft.traffic.add(version=found.name.rpartition("/")[2], weight=100)
        if not draft.all_workers:
            draft.replicas = draft.replicas or 1
        request = deployment_service_pb2.CreateDeploymentRequest(
            deployment_id=deployment, deployment=draft, request_id=str(uuid.uuid4())
        )
        return await self._connection.call(methods.CREATE_DEPLOYMENT, request)

    async def undeploy(self, deployment: str) -> None:
        """Deletes a deployment; calls under way finish. Raises NotFound."""
        request = deployment_service_pb2.DeleteDeploymentRequest(name=names.deployment_name(deployment))
        await self._connection.call(methods.DELETE_DEPLOYMENT, request)

    async def get_deployment(self, deployment: str) -> deployment_pb2.Deployment:
        """Returns a deployment with its state and what each version is doing. Raises NotFound."""
        request = deployment_service_pb2.GetDeploymentRequest(name=names.deployment_name(deployment))
        return await self._connection.call(methods.GET_DEPLOYMENT, request)

    def deployments(self, *, model: str = "") -> AsyncIterator[deployment_pb2.Deployment]:
        """Yields the deployments in the order of their ids, all or those of one model."""
        request = deployment_service_pb2.ListDeploymentsRequest(model=names.model_name(model) if model else "")
        return self._connection.pages(methods.LIST_DEPLOYMENTS, request)

    def workers(self) -> AsyncIterator[worker_pb2.Worker]:
        """Yields the workers that are alive, with their devices and what they hold."""
        return self._connection.pages(methods.LIST_WORKERS, scheduler_service_pb2.ListWorkersRequest())


def _fields(version: str | int, traffic: Mapping[str, int] | None, settings: Settings) -> dict[str, Any]:
    """Returns the fields of a Deployment that are given."""
    unknown = sorted(settings.keys() - Settings.__annotations__.keys())
    if unknown:
        raise TypeError(f"deploy() got an unexpected keyword argument '{unknown[0]}'")
    fields: dict[str, Any] = {"traffic": _targets(version, traffic), **settings}
    replicas = fields.get("replicas")
    if replicas == "all":
        del fields["replicas"]
        fields["all_workers"] = True
    elif replicas is not None and not isinstance(replicas, int):
        raise InvalidInput(f"replicas: expected a number or 'all', got {replicas!r}")
    return {field: value for field, value in fields.items() if value is not None}


def _targets(version: str | int, traffic: Mapping[str, int] | None) -> list[deployment_pb2.TrafficTarget] | None:
    if version and traffic:
        raise InvalidInput("traffic: give version or traffic, not both")
    if version:
        traffic = {str(version): 100}
    if traffic is None:
        return None
    if not traffic:
        raise InvalidInput("traffic: expected at least one version with its weight, got none")
    return [deployment_pb2.TrafficTarget(version=str(name), weight=weight) for name, weight in traffic.items()]
