"""Which versions answer now: shares and aliases over what is ready. Pure.

A target that is not ready is stood in for: by the highest version that is ready and no longer a target, else by the
targets that are ready. So a new version gets its calls once it can answer them, and nobody is turned away before.
"""

from collections.abc import Mapping

from infermesh.scheduler.model import Deployment
from infermesh.scheduler.standing import Standing


def stand_in(deployment: Deployment, standings: Mapping[str, Standing]) -> str | None:
    """Returns the version that stands in for targets that are not ready; None if no version that was one is left."""
    targets = {target.version for target in deployment.targets}
    # standings are sorted newest first
    return next((number for number, s in standings.items() if s.serving and number not in targets), None)


def shares(deployment: Deployment, standings: Mapping[str, Standing]) -> dict[str, int]:
    """Returns the share of the calls that each version gets now, above 0, in the order of the targets; empty while none
    can answer."""
    found: dict[str, int] = {}
    substitute = stand_in(deployment, standings)
    for target in deployment.targets:
        version = target.version if _serves(target.version, standings) else substitute
        if version is not None and target.weight > 0:
            found[version] = found.get(version, 0) + target.weight
    return found


def aliases(deployment: Deployment, standings: Mapping[str, Standing]) -> dict[str, str]:
    """Returns the version that answers for each alias now.

    An alias of a target that nothing answers for stands for that target; one of any other version is left out then.
    """
    targets = {target.version for target in deployment.targets}
    substitute = stand_in(deployment, standings) or _highest_target(deployment, standings)
    found = {}
    for alias, version in deployment.aliases.items():
        if _serves(version, standings):
            found[alias] = version
        elif version in targets:
            found[alias] = substitute or version
    return found


def wanted(deployment: Deployment) -> dict[str, int]:
    """Returns the share of the calls that each version is to get, above 0."""
    return {target.version: target.weight for target in deployment.targets if target.weight > 0}


def _highest_target(deployment: Deployment, standings: Mapping[str, Standing]) -> str | None:
    ready = [
        target.version for target in deployment.targets if _serves(target.version, standings) and target.weight > 0
    ]
    return max(ready, key=int, default=None)


def _serves(version: str, standings: Mapping[str, Standing]) -> bool:
    standing = standings.get(version)
    return standing is not None and bool(standing.serving)
