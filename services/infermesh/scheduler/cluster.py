"""The way to the API server of a Kubernetes cluster. Importing this takes a second and 30 MiB."""

import json
from pathlib import Path
from typing import Final

from kubernetes import client, config
from kubernetes.client.exceptions import ApiException
from kubernetes.config.config_exception import ConfigException

from infermesh.errors import ConfigError

_NAMESPACE: Final = Path("/var/run/secrets/kubernetes.io/serviceaccount/namespace")


def api_client(kubeconfig: str) -> client.ApiClient:
    """Returns a client that never tries a request twice by itself; give each request its `_request_timeout`.

    `kubeconfig` is a file; empty: as a pod, by the token of its service account, which is read again as it changes.
    Raises ConfigError if that is not there.
    """
    reach = client.Configuration()
    try:
        if kubeconfig:
            config.load_kube_config(kubeconfig, client_configuration=reach)  # type: ignore[no-untyped-call]
        else:
            config.load_incluster_config(reach)  # type: ignore[no-untyped-call]
    except (ConfigException, OSError) as error:
        where = f"can't use {kubeconfig}" if kubeconfig else "not set, and this is no pod with a service account"
        raise ConfigError(f"kubeconfig: {where}: {error}") from error
    reach.retries = False  # urllib3 takes False for none at all
    return client.ApiClient(reach)


def own_namespace() -> str:
    """Returns the namespace of the pod that this process runs in. Raises ConfigError outside of one."""
    try:
        return _NAMESPACE.read_text().strip()
    except OSError as error:
        raise ConfigError(f"namespace: not set, and this is no pod with a service account: {error}") from error


def message_of(error: ApiException) -> str:
    """Returns what the API server says in its Status object, else the reason of the HTTP answer."""
    try:
        return str(json.loads(error.body or "")["message"])
    except (TypeError, ValueError, KeyError):
        return str(error.reason)
