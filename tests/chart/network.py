"""Evaluates NetworkPolicies as a network plug-in does: which end may talk to which, on which port."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

from tests.chart.objects import Object, matches


@dataclass(frozen=True)
class End:
    """A pod with its labels and those of its namespace, or a host outside with its address alone."""

    name: str
    labels: Mapping[str, str] = field(default_factory=dict)
    namespace: Mapping[str, str] = field(default_factory=dict)
    address: str = ""


def allowed(policies: Iterable[Object], source: End, target: End, port: int, protocol: str = "TCP") -> bool:
    """Says whether policies of one namespace let `source` connect to `target`: both ends must agree."""
    policies = list(policies)
    return _permits(policies, source, "Egress", target, port, protocol) and _permits(
        policies, target, "Ingress", source, port, protocol
    )


def _permits(policies: list[Object], end: End, direction: str, peer: End, port: int, protocol: str) -> bool:
    selecting = [policy["spec"] for policy in policies if _selects(policy, end, direction)]
    rules = [rule for spec in selecting for rule in spec.get(direction.lower()) or []]
    return not selecting or any(_allows(rule, end, peer, port, protocol) for rule in rules)


def _selects(policy: Object, end: End, direction: str) -> bool:
    spec = policy["spec"]
    own = end.namespace.get("kubernetes.io/metadata.name") == policy["metadata"]["namespace"]
    return own and direction in spec["policyTypes"] and matches(spec["podSelector"], end.labels)


def _allows(rule: Mapping[str, Any], end: End, peer: End, port: int, protocol: str) -> bool:
    ports = rule.get("ports")
    peers = rule.get("from", rule.get("to"))
    at_port = not ports or any(item["port"] == port and item.get("protocol", "TCP") == protocol for item in ports)
    return at_port and (not peers or any(_is(item, end, peer) for item in peers))


def _is(item: Mapping[str, Any], end: End, peer: End) -> bool:
    if "ipBlock" in item:
        block = item["ipBlock"]
        if not peer.address:
            return False
        inside = ip_address(peer.address) in ip_network(block["cidr"])
        return inside and not any(ip_address(peer.address) in ip_network(one) for one in block.get("except", []))
    if not peer.namespace:  # a host is in no namespace
        return False
    namespace = item.get("namespaceSelector")
    here = matches(namespace, peer.namespace) if namespace is not None else peer.namespace == end.namespace
    return here and matches(item.get("podSelector") or {}, peer.labels)
