"""What tests ask about rendered objects."""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

import yaml

Object = Mapping[str, Any]
WORKLOADS = ("Deployment", "StatefulSet", "DaemonSet", "Job")
COMPONENT = "app.kubernetes.io/component"
POOL = "infermesh.io/pool"


def name(item: Object) -> str:
    """Returns kind and name, as messages show them."""
    return f"{item['kind']}/{item['metadata']['name']}"


def labels(item: Object) -> dict[str, str]:
    """Returns the labels of an object."""
    return item["metadata"].get("labels") or {}


def of(objects: Iterable[Object], *kinds: str) -> list[Object]:
    """Returns the objects of some kinds."""
    return [item for item in objects if item["kind"] in kinds]


def is_hook(item: Object) -> bool:
    """Says whether helm creates the object only at a certain moment, as for `helm test`."""
    return "helm.sh/hook" in (item["metadata"].get("annotations") or {})


def services(objects: Iterable[Object]) -> list[Object]:
    """Returns the workloads that run a service of the mesh."""
    return [item for item in of(objects, *WORKLOADS) if not is_hook(item)]


def pod_template(item: Object) -> Object:
    """Returns metadata and spec of the pods of a workload, or of a pod itself."""
    return item if item["kind"] == "Pod" else item["spec"]["template"]


def pods(objects: Iterable[Object]) -> Iterator[tuple[str, Object]]:
    """Yields the name of each object that makes pods, with metadata and spec of these."""
    for item in of(objects, *WORKLOADS, "Pod"):
        yield name(item), pod_template(item)


def containers(spec: Object) -> list[Object]:
    """Returns every container of a pod's spec."""
    return [*spec.get("initContainers", []), *spec["containers"]]


def component(item: Object) -> str:
    """Returns the service that an object belongs to."""
    return labels(item).get(COMPONENT, "")


def matches(selector: Object, pod_labels: Mapping[str, str]) -> bool:
    """Says whether a label selector chooses a pod. An empty one chooses every pod."""
    unknown = set(selector) - {"matchLabels", "matchExpressions"}
    assert not unknown, f"no label selector: {selector}"
    return all(pod_labels.get(key) == value for key, value in (selector.get("matchLabels") or {}).items()) and all(
        _fits(expression, pod_labels) for expression in selector.get("matchExpressions") or []
    )


def _fits(expression: Object, pod_labels: Mapping[str, str]) -> bool:
    value, operator = pod_labels.get(expression["key"]), expression["operator"]
    return {
        "In": lambda: value in expression["values"],
        "NotIn": lambda: value not in expression["values"],
        "Exists": lambda: value is not None,
        "DoesNotExist": lambda: value is None,
    }[operator]()


def selector(item: Object) -> Object | None:
    """Returns the label selector of an object by which it chooses pods, if it has one."""
    spec = item.get("spec") or {}
    if item["kind"] == "Service":
        return {"matchLabels": spec["selector"]} if spec.get("selector") else None
    if item["kind"] == "NetworkPolicy":
        return spec["podSelector"]
    return spec["selector"] if item["kind"] in ("PodDisruptionBudget", *WORKLOADS) and "selector" in spec else None


def config(objects: Sequence[Object], spec: Object) -> dict[str, Any]:
    """Returns the configuration that the pods of a service read: the file that --config names."""
    container = spec["containers"][0]
    path = container["args"][container["args"].index("--config") + 1]
    folder, _, file = path.rpartition("/")
    (mount,) = [mount for mount in container["volumeMounts"] if mount["mountPath"] == folder]
    (volume,) = [volume for volume in spec["volumes"] if volume["name"] == mount["name"]]
    wanted = volume["configMap"]["name"]
    (source,) = [item for item in of(objects, "ConfigMap") if item["metadata"]["name"] == wanted]
    return yaml.safe_load(source["data"][file])
