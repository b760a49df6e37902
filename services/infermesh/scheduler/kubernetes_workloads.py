"""Workloads as Deployments of a Kubernetes cluster; each worker is the pod of its name."""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from http import HTTPStatus
from typing import Any, Final, TypeVar

import urllib3.exceptions
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from infermesh.errors import Conflict, InvalidInput, MeshError, NotFound, NotReady, PermissionDenied
from infermesh.scheduler.cluster import api_client, message_of, own_namespace
from infermesh.scheduler.config import LeaseConfig
from infermesh.scheduler.workloads import Scale

T = TypeVar("T")
DELETION_COST: Final = "controller.kubernetes.io/pod-deletion-cost"
"""The annotation by which ReplicaSets choose the pods that go."""
_TIMEOUT: Final = 2.0  # seconds for a request
_MARGIN: Final = 1.2  # how much longer its thread is waited for
_ERRORS: Final[dict[int, type[MeshError]]] = {
    HTTPStatus.BAD_REQUEST: InvalidInput,
    HTTPStatus.UNAUTHORIZED: PermissionDenied,
    HTTPStatus.FORBIDDEN: PermissionDenied,
    HTTPStatus.NOT_FOUND: NotFound,
    HTTPStatus.CONFLICT: Conflict,
    HTTPStatus.UNPROCESSABLE_ENTITY: InvalidInput,
}


def workloads_of_cluster(settings: LeaseConfig) -> "KubernetesWorkloads":
    """Returns the workloads of the cluster and namespace that `settings` name. Raises ConfigError if they can't be
    known from here."""
    return KubernetesWorkloads(api_client(settings.kubeconfig), settings.namespace or own_namespace())


class KubernetesWorkloads:
    """See `workloads.Workloads`. Requests are made one after the other, in a thread of their own."""

    def __init__(self, api: client.ApiClient, namespace: str) -> None:
        self._apps = client.AppsV1Api(api)
        self._core = client.CoreV1Api(api)
        self._namespace = namespace
        self._thread = ThreadPoolExecutor(1, "workloads")

    async def scale(self, workload: str) -> Scale:
        """See Workloads."""
        read = self._apps.read_namespaced_deployment_scale
        return _scale(await self._ask(f"Deployment {workload}", lambda: read(workload, self._namespace, **_LIMIT)))

    async def set_scale(self, workload: str, scale: Scale) -> Scale:
        """See Workloads."""
        patch = self._apps.patch_namespaced_deployment_scale
        body = {"metadata": {"resourceVersion": scale.version}, "spec": {"replicas": scale.replicas}}
        what = f"Deployment {workload}"
        return _scale(await self._ask(what, lambda: patch(workload, self._namespace, body, **_LIMIT)))

    async def set_deletion_cost(self, worker: str, cost: int) -> None:
        """See Workloads."""
        patch = self._core.patch_namespaced_pod
        body = {"metadata": {"annotations": {DELETION_COST: str(cost)}}}
        await self._ask(f"pod {worker}", lambda: patch(worker, self._namespace, body, **_LIMIT))

    async def _ask(self, what: str, request: Callable[[], T]) -> T:
        answer = asyncio.get_running_loop().run_in_executor(self._thread, request)
        try:
            return await asyncio.wait_for(answer, _TIMEOUT * _MARGIN)
        except ApiException as error:
            kind = _ERRORS.get(error.status or 0, NotReady)
            raise kind(f"API server: {what}: {error.status} {message_of(error)}") from error
        except (urllib3.exceptions.HTTPError, OSError, ConfigException) as error:  # OSError: TimeoutError, too
            raise NotReady(f"API server: {what}: {type(error).__name__}: {error}") from error


_LIMIT: Final[dict[str, Any]] = {"_request_timeout": _TIMEOUT}


def _scale(found: client.V1Scale) -> Scale:
    spec, metadata = found.spec, found.metadata
    return Scale((spec and spec.replicas) or 0, (metadata and metadata.resource_version) or "")
