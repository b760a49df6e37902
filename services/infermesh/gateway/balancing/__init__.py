"""Balancing policies: which of the workers that have credit gets the next call. One file and one line here for each.

Other distributions add theirs by an entry point in the group `infermesh.balancing`. Used by the dispatcher.
"""

from infermesh.gateway.balancing.base import BalancingPolicy, Candidate
from infermesh.mesh.extensions import Table

DEFAULT_POLICY = "round_robin"


def policies() -> Table[BalancingPolicy]:
    """Returns the table of policies by the name that a deployment gives."""
    here = "infermesh.gateway.balancing"
    entries = {name: f"{here}.{name}:choose" for name in ("round_robin", "random", "least_load", "weighted")}
    return Table("balancing policy", entries, "infermesh.balancing")


__all__ = ["DEFAULT_POLICY", "BalancingPolicy", "Candidate", "policies"]
