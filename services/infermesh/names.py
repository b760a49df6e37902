"""Resource names: how they are built, taken apart and checked. Used by every room."""

import re
from typing import NewType

from infermesh.errors import InvalidInput

Target = NewType("Target", str)
"""Deployment and version as they travel between gateway and worker: `digits/2`."""

_ID = re.compile(r"[a-z0-9](?:[a-z0-9._-]{0,61}[a-z0-9])?")
_VERSION = re.compile(r"[1-9][0-9]{0,17}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def check_id(kind: str, value: str) -> str:
    """Returns `value` if it is a good id of a `kind` (model, alias, deployment). Raises InvalidInput."""
    if not _ID.fullmatch(value) or ".." in value:
        raise InvalidInput(
            f"{kind} id: expected 1 to 63 lower-case letters, digits, '-', '_' or '.', beginning and ending with a "
            f"letter or digit, got {value!r}",
            violations=[(f"{kind}_id", "malformed id")],
        )
    return value


def check_alias(value: str) -> str:
    """Returns `value` if it may name an alias: an id, but no number, `latest` or `none`. Raises InvalidInput."""
    if value.isdigit() or value in ("latest", "none"):
        raise InvalidInput(f"alias id: a number, 'latest' and 'none' have a meaning of their own, got {value!r}")
    return check_id("alias", value)


def check_digest(value: str) -> str:
    """Returns `value` if it is `sha256:` and 64 hexadecimal digits. Raises InvalidInput."""
    if not _DIGEST.fullmatch(value):
        raise InvalidInput(f"digest: expected 'sha256:' and 64 lower-case hexadecimal digits, got {value[:100]!r}")
    return value


def is_version(value: str) -> bool:
    """Tells whether `value` is a version number (and not an alias)."""
    return bool(_VERSION.fullmatch(value))


def model_name(model: str) -> str:
    """Returns `models/{model}`."""
    return f"models/{model}"


def version_name(model: str, version: str | int) -> str:
    """Returns `models/{model}/versions/{version}`."""
    return f"models/{model}/versions/{version}"


def alias_name(model: str, alias: str) -> str:
    """Returns `models/{model}/aliases/{alias}`."""
    return f"models/{model}/aliases/{alias}"


def deployment_name(deployment: str) -> str:
    """Returns `deployments/{deployment}`."""
    return f"deployments/{deployment}"


def worker_name(worker: str) -> str:
    """Returns `workers/{worker}`."""
    return f"workers/{worker}"


def target_of(deployment: str, version: str) -> Target:
    """Returns the target of a deployment's version: `digits/2`."""
    return Target(f"{deployment}/{version}")


def parse_target(target: str) -> tuple[str, str]:
    """Returns deployment and version of a target."""
    deployment, _, version = target.partition("/")
    return deployment, version


def parse(pattern: str, name: str) -> tuple[str, ...]:
    """Returns the ids in `name` by `pattern`, e.g. `models/*/versions/*`.

    Raises InvalidInput if the name has another form or an id is malformed.
    """
    wanted, got = pattern.split("/"), name.split("/")
    if len(wanted) != len(got) or any(w not in ("*", g) for w, g in zip(wanted, got, strict=True)):
        raise InvalidInput(f"name: expected the form '{pattern}', got {name[:200]!r}", violations=[("name", pattern)])
    ids = tuple(g for w, g in zip(wanted, got, strict=True) if w == "*")
    for kind, value in zip(wanted[::2], ids, strict=False):
        check_id(kind.removesuffix("s").removesuffix("e") if kind == "aliases" else kind.removesuffix("s"), value)
    return ids
