"""The JSON schema of the chart's values: what the services themselves parse, and the chart's own keys around it.

Every object of ours is closed, so that a key that is mistyped is refused. Used by `gen_chart.py`.
"""

from typing import Any, Final

from infermesh.cli.schema import schema_of

Schema = dict[str, Any]

COMPUTED: Final = {
    "gateway": ("listen", "grpc_listen", "scheduler", "registry", "name", "state", "front_tls"),
    "registry": ("listen", "home", "database_url"),
    "scheduler": (
        "listen",
        "registry",
        "leadership",
        "lease.name",
        "lease.namespace",
        "lease.identity",
        "lease.kubeconfig",
        "scaler_listen",
        "pools",
    ),
    "worker": (
        "listen",
        "advertise",
        "bundle_listen",
        "bundle_advertise",
        "scheduler",
        "registry",
        "id",
        "device",
        "cache",
    ),
}
"""Settings that the chart computes: nobody else sets them."""
_OF_EVERY_PROCESS: Final = ("health_listen", "metrics_listen", "ready_file", "tls")

NAME: Final = r"^[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?$"
POOL: Final = r"^[a-z]([-a-z0-9]{0,13}[a-z0-9])?$"
QUANTITY: Final = r"^[0-9]+(\.[0-9]+)?(n|u|m|k|M|G|T|P|E|Ki|Mi|Gi|Ti|Pi|Ei)?$"
SECRET: Final = r"^([a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?)?$"

BOOL: Final[Schema] = {"type": "boolean"}
TEXT: Final[Schema] = {"type": "string"}
PORT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 65535}
SECONDS: Final[Schema] = {"type": "integer", "minimum": 0, "maximum": 86400}
ANY: Final[Schema] = {"type": "object"}
OBJECTS: Final[Schema] = {"type": "array", "items": ANY}
TEXTS: Final[Schema] = {"type": "object", "additionalProperties": TEXT}
SECRET_NAME: Final[Schema] = {"type": "string", "pattern": SECRET}
SHARE: Final[Schema] = {
    "anyOf": [{"type": "integer", "minimum": 0}, {"type": "string", "pattern": "^(100|[0-9]{1,2})%$"}]
}
PERCENT: Final[Schema] = {"type": "integer", "minimum": 1, "maximum": 1000}

REMOVABLE: Final = frozenset(
    {
        *("nodeSelector", "tolerations", "affinity", "topologySpread", "podAnnotations", "podLabels"),
        *("extraEnv", "extraVolumes", "extraVolumeMounts"),
    }
)
"""Keys of a component that null may remove; templates rely on the others."""


def closed(**properties: Schema) -> Schema:
    """Returns the schema of an object that has these properties, some or all, and no others."""
    return {"type": "object", "additionalProperties": False, "properties": properties}


def one_of(*names: str) -> Schema:
    """Returns the schema of a choice between names."""
    return {"enum": list(names)}


def at_least(least: int) -> Schema:
    """Returns the schema of a number of pods."""
    return {"type": "integer", "minimum": least, "maximum": 10_000}


def config(service: str) -> Schema:
    """Returns the schema of a service's own settings, without those that the chart computes."""
    schema = schema_of(service)
    del schema["$schema"]
    for key in (*COMPUTED[service], *_OF_EVERY_PROCESS):
        *groups, last = key.split(".")
        node = schema
        for group in groups:
            node = node["properties"][group]
        node["properties"].pop(last)
    cleaned: Schema = _without_titles(schema)
    return cleaned


def _without_titles(node: Any) -> Any:
    if isinstance(node, list):
        return [_without_titles(item) for item in node]
    if not isinstance(node, dict):
        return node
    return {
        key: {name: _without_titles(value) for name, value in found.items()}
        if key == "properties"
        else _without_titles(found)
        for key, found in node.items()
        if key != "title"
    }


def complete(schema: Schema) -> Schema:
    """Returns the schema of a component that has every key, as no pool needs to."""
    needed = [key for key in schema["properties"] if key not in REMOVABLE]
    scaled = {**schema["properties"]["autoscaling"], "required": ["mode"]}
    return {**schema, "required": needed, "properties": {**schema["properties"], "autoscaling": scaled}}


def with_groups(schema: Schema) -> Schema:
    """Returns the schema of a block whose groups, at any depth, no null removes."""
    properties = {
        key: with_groups(value) if "properties" in value else value for key, value in schema["properties"].items()
    }
    needed = [key for key, value in properties.items() if "properties" in value]
    return {**schema, "properties": properties, "required": needed}


def resources() -> Schema:
    """Returns the schema of a container's resources."""
    quantity = {"anyOf": [{"type": "number", "minimum": 0}, {"type": "string", "pattern": QUANTITY}]}
    amounts = {"type": "object", "additionalProperties": quantity}
    return closed(requests=amounts, limits=amounts)


def autoscaling(service: str) -> Schema:
    """Returns the schema of who says how many pods there are."""
    if service in ("registry", "scheduler"):
        return closed(mode=one_of("none"))
    if service == "gateway":
        return closed(
            mode=one_of("none", "hpa"), min=at_least(1), max=at_least(1), cpu=PERCENT, scale_down_delay=_window()
        )
    (pool,) = _without_titles(schema_of("scheduler"))["properties"]["pools"]["patternProperties"].values()
    pool = pool["properties"]
    return closed(
        mode={"enum": pool["autoscaling"]["enum"]},
        min=pool["min"],
        max=pool["max"],
        cpu=PERCENT,
        target=pool["target"],
        scale_down_delay=_window(),
        zero_delay=pool["zero_delay"],
    )


def _window() -> Schema:
    return {"type": "integer", "minimum": 0, "maximum": 3600}  # the limit of autoscaling/v2


def service_of(service: str) -> Schema:
    """Returns the schema of a service's Kubernetes Service."""
    if service != "gateway":
        return closed(annotations=TEXTS)
    node_port = {"anyOf": [PORT, {"type": "null"}]}
    kind = one_of("ClusterIP", "NodePort", "LoadBalancer")
    schema = closed(type=kind, port=PORT, grpcPort=PORT, nodePort=node_port, grpcNodePort=node_port, annotations=TEXTS)
    return {**schema, "required": ["type", "port", "grpcPort"]}


def component(service: str, **more: Schema) -> Schema:
    """Returns the schema of a service's values; the keys are the same for each, but for `more`."""
    return closed(
        image=closed(repository=TEXT, tag=TEXT),
        replicas=at_least(0 if service == "worker" else 1),
        config=config(service),
        resources=resources(),
        autoscaling=autoscaling(service),
        pdb=closed(
            enabled=BOOL,
            maxUnavailable={"anyOf": [*SHARE["anyOf"], {"type": "null"}]},
            minAvailable={"anyOf": [*SHARE["anyOf"], {"type": "null"}]},
        ),
        service=service_of(service),
        networkPolicy=closed(ingress=OBJECTS, egress=OBJECTS),
        serviceMonitor=closed(enabled=BOOL),
        securityContext=closed(pod=ANY, container=ANY),
        serviceAccount=closed(annotations=TEXTS),
        nodeSelector=TEXTS,
        tolerations=OBJECTS,
        affinity=ANY,
        topologySpread={"type": "array", "items": _spread()},
        nodeLossSeconds=SECONDS,
        strategy=closed(maxSurge=SHARE, maxUnavailable=SHARE),
        minReadySeconds=SECONDS,
        preStopSeconds=SECONDS,
        terminationGracePeriodSeconds=SECONDS,
        extraEnv={"type": "array", "items": {"type": "object", "required": ["name"]}},
        extraVolumes={"type": "array", "items": {"type": "object", "required": ["name"]}},
        extraVolumeMounts={"type": "array", "items": {"type": "object", "required": ["name", "mountPath"]}},
        podAnnotations=TEXTS,
        podLabels=TEXTS,
        **more,
    )


def _spread() -> Schema:
    spread = closed(
        maxSkew={"type": "integer", "minimum": 1},
        minDomains={"type": "integer", "minimum": 1},
        topologyKey=TEXT,
        whenUnsatisfiable=one_of("DoNotSchedule", "ScheduleAnyway"),
        nodeAffinityPolicy=one_of("Honor", "Ignore"),
        nodeTaintsPolicy=one_of("Honor", "Ignore"),
    )
    return {**spread, "required": ["maxSkew", "topologyKey", "whenUnsatisfiable"]}


def registry() -> Schema:
    """Returns the schema of the registry, which alone keeps something."""
    return component(
        "registry",
        persistence=closed(
            enabled=BOOL,
            existingClaim=SECRET_NAME,
            keep=BOOL,
            size={"type": "string", "pattern": QUANTITY},
            storageClass=TEXT,
            accessMode=one_of("ReadWriteOnce", "ReadWriteOncePod", "ReadWriteMany"),
        ),
        database=closed(existingSecret=SECRET_NAME, key={"type": "string", "minLength": 1}, port=PORT),
    )


def pools() -> Schema:
    """Returns the schema of the worker pools: a device, and any key of `worker`."""
    device = schema_of("worker")["properties"]["device"]
    return {
        "type": "object",
        "additionalProperties": False,
        "patternProperties": {POOL: component("worker", device={"type": "string", "pattern": device["pattern"]})},
    }


def network_policy() -> Schema:
    """Returns the schema of what all NetworkPolicies share; a peer has one of three shapes."""
    peer = {**closed(podSelector=ANY, namespaceSelector=ANY, ipBlock=ANY), "minProperties": 1}
    peers = {"type": "array", "items": peer}
    some = {**peers, "minItems": 1}
    ports = {"type": "array", "items": PORT, "minItems": 1}
    return closed(
        enabled=BOOL, clients=peers, monitoring=peers, keda=some, dns=some, apiServer=closed(peers=peers, ports=ports)
    )


def tls() -> Schema:
    """Returns the schema of where certificates are from."""
    hours: Schema = {"type": "string", "pattern": "^[0-9]+h$"}
    issuer = closed(name=TEXT, kind=TEXT, group=TEXT)
    return closed(
        existingSecret=SECRET_NAME,
        certManager=closed(enabled=BOOL, issuerRef=issuer, duration=hours, renewBefore=hours),
        front=closed(existingSecret=SECRET_NAME, clientAuthority=BOOL, serverName=TEXT),
    )


def values() -> Schema:
    """Returns the schema of the chart's values."""
    cut = {"anyOf": [{"const": ""}, {"type": "string", "pattern": NAME}]}
    schema = closed(
        nameOverride=cut,
        fullnameOverride=cut,
        image=closed(
            registry=TEXT,
            tag={"type": "string", "pattern": r"^([A-Za-z0-9_][A-Za-z0-9._-]{0,127})?$"},
            pullPolicy=one_of("Always", "IfNotPresent", "Never"),
            pullSecrets={"type": "array", "items": SECRET_NAME},
        ),
        gateway=complete(component("gateway")),
        registry=complete(registry()),
        scheduler=complete(component("scheduler")),
        worker=complete(component("worker")),
        pools=pools(),
        tls=with_groups(tls()),
        monitoring=with_groups(
            closed(
                serviceMonitor=closed(
                    enabled=BOOL, interval={"type": "string", "pattern": "^[0-9]+(ms|s|m|h)$"}, labels=TEXTS
                ),
                dashboards=closed(enabled=BOOL, labels=TEXTS),
            )
        ),
        networkPolicy=with_groups(network_policy()),
    )
    schema["required"] = [key for key in schema["properties"] if not key.endswith("Override")]
    schema["properties"]["global"] = {"type": "object", "description": "Helm's own; not used here."}
    return {"$schema": "http://json-schema.org/draft-07/schema#", "title": "values of the chart infermesh", **schema}
