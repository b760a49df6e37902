"""The Lease as an object of a Kubernetes cluster.

Why not the election that comes with the `kubernetes` package: it goes by the wall clock, its requests have no timeout,
a refused connection ends it, and it can't give the Lease back.
"""

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from http import HTTPStatus
from typing import Any, Final, TypeVar, cast

import urllib3.exceptions
from kubernetes import client
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from infermesh.errors import Conflict, NotReady
from infermesh.scheduler.cluster import api_client, message_of, own_namespace
from infermesh.scheduler.config import LeaseConfig
from infermesh.scheduler.leadership.base import Lease

T = TypeVar("T")
_SHARE: Final = 0.7  # of the time between two tries that a request may take
_MARGIN: Final = 1.2  # how much longer its thread is waited for
_LATE: Final = (urllib3.exceptions.TimeoutError, TimeoutError)


def lease_of_cluster(settings: LeaseConfig) -> "KubernetesLease":
    """Returns the Lease that `settings` name. Raises ConfigError if there is no way to its cluster."""
    api = client.CoordinationV1Api(api_client(settings.kubeconfig))
    return KubernetesLease(api, settings.name, settings.namespace or own_namespace(), settings.retry * _SHARE)


class KubernetesLease:
    """A LeaseStore. `timeout` is in seconds for each request.

    Requests are made one after the other in a thread of their own, so that none overtakes one that was given up.
    """

    def __init__(self, api: client.CoordinationV1Api, name: str, namespace: str, timeout: float) -> None:
        self._api = api
        self._name = name
        self._namespace = namespace
        self._timeout = timeout
        self._thread = ThreadPoolExecutor(1, "lease")

    async def read(self) -> Lease | None:
        """See LeaseStore."""
        return await self._ask(self._read)

    async def write(self, lease: Lease) -> Lease:
        """See LeaseStore."""
        return await self._ask(lambda: self._write(lease))

    async def _ask(self, request: Callable[[], T]) -> T:
        answer = asyncio.get_running_loop().run_in_executor(self._thread, request)
        try:
            return await asyncio.wait_for(answer, self._timeout * _MARGIN)
        except ApiException as error:
            raise _refusal(error, f"lease {self._namespace}/{self._name}") from error
        except (urllib3.exceptions.HTTPError, OSError, ConfigException) as error:
            late = isinstance(error, _LATE) and not isinstance(error, urllib3.exceptions.NewConnectionError)
            why = f"no answer within {self._timeout:g} s" if late else f"{type(error).__name__}: {error}"
            raise NotReady(f"API server: {why}") from error

    def _read(self) -> Lease | None:
        try:
            found = self._api.read_namespaced_lease(self._name, self._namespace, _request_timeout=self._timeout)
        except ApiException as error:
            if error.status == HTTPStatus.NOT_FOUND:
                return None
            raise
        return _lease(found)

    def _write(self, lease: Lease) -> Lease:
        now = datetime.now(UTC)
        spec = client.V1LeaseSpec(
            holder_identity=lease.holder,
            lease_duration_seconds=lease.duration,
            lease_transitions=lease.transitions,
            acquire_time=lease.acquired or now,
            renew_time=now,
        )
        # with the metadata as they were read: labels and notes of others stay, and the version is compared
        metadata = cast(client.V1ObjectMeta, lease.origin) if lease.version else client.V1ObjectMeta(name=self._name)
        body = client.V1Lease(metadata=metadata, spec=spec)
        limit: dict[str, Any] = {"_request_timeout": self._timeout}
        if lease.version:
            return _lease(self._api.replace_namespaced_lease(self._name, self._namespace, body, **limit))
        return _lease(self._api.create_namespaced_lease(self._namespace, body, **limit))


def _lease(found: client.V1Lease) -> Lease:
    spec, metadata = found.spec or client.V1LeaseSpec(), found.metadata or client.V1ObjectMeta()
    return Lease(
        holder=spec.holder_identity or "",
        duration=spec.lease_duration_seconds or 0,
        transitions=spec.lease_transitions or 0,
        acquired=spec.acquire_time,
        version=metadata.resource_version or "",
        origin=metadata,
    )


def _refusal(error: ApiException, what: str) -> Conflict | NotReady:
    text = f"API server: {what}: {error.status} {message_of(error)}"
    if error.status == HTTPStatus.CONFLICT:
        return Conflict(text)
    return NotReady(text)
