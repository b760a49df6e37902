"""What the `restricted` Pod Security Standard asks of a pod, and what this project asks beside it.

Source: kubernetes.io, Pod Security Standards, as of Kubernetes 1.34.
"""

from collections.abc import Iterator, Mapping
from typing import Any

from tests.chart.objects import containers

VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip
PROFILES = ("RuntimeDefault", "Localhost")
PROBES = ("startupProbe", "readinessProbe", "livenessProbe")


def violations(spec: Mapping[str, Any]) -> list[str]:
    """Returns one line for each rule that a pod's spec breaks."""
    return [*_of_pod(spec), *(line for item in containers(spec) for line in _of_container(item, spec))]


def _of_pod(spec: Mapping[str, Any]) -> Iterator[str]:
    yield from (f"{key}: true" for key in ("hostNetwork", "hostPID", "hostIPC") if spec.get(key))
    for volume in spec.get("volumes", []):
        yield from (f"volume {volume['name']}: {kind}" for kind in set(volume) - {"name"} - VOLUMES)
    context = spec.get("securityContext") or {}
    if context.get("sysctls"):
        yield "sysctls"
    if context.get("runAsUser") == 0:
        yield "runAsUser: 0"
    if 0 in context.get("supplementalGroups", []):
        yield "supplementalGroups: 0"


def _of_container(item: Mapping[str, Any], spec: Mapping[str, Any]) -> Iterator[str]:
    name, own = item["name"], item.get("securityContext") or {}
    context = {**(spec.get("securityContext") or {}), **own}
    if own.get("allowPrivilegeEscalation") is not False:
        yield f"{name}: allowPrivilegeEscalation is not false"
    if own.get("privileged"):
        yield f"{name}: privileged"
    capabilities = own.get("capabilities") or {}
    if "ALL" not in capabilities.get("drop", []) or set(capabilities.get("add", [])) - {"NET_BIND_SERVICE"}:
        yield f"{name}: capabilities {capabilities}"
    if context.get("runAsNonRoot") is not True or context.get("runAsUser") == 0:
        yield f"{name}: may run as root"
    if (context.get("seccompProfile") or {}).get("type") not in PROFILES:
        yield f"{name}: seccompProfile"
    if own.get("procMount", "Default") != "Default":
        yield f"{name}: procMount"
    yield from (f"{name}: hostPort {port['hostPort']}" for port in item.get("ports", []) if port.get("hostPort"))
    for probe in PROBES:
        yield from (f"{name}: {probe} of a host" for how in (item.get(probe) or {}).values() if _names_a_host(how))
    if own.get("readOnlyRootFilesystem") is not True:  # beyond the standard
        yield f"{name}: the root file system can be written"


def _names_a_host(how: Any) -> bool:
    return isinstance(how, dict) and bool(how.get("host"))
