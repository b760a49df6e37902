"""Runs helm and kubectl on the chart."""

import json
import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[2]
CHART = ROOT / "charts" / "infermesh"
VALUE_SETS = sorted((CHART / "ci").glob("*-values.yaml"))
RELEASE = "mesh"
NAMESPACE = "models"
_LOADER = getattr(yaml, "CSafeLoader", yaml.SafeLoader)


class Refused(Exception):
    """What helm or kubectl printed when it refused; the text is the message."""


def helm(*arguments: str | Path) -> str:
    """Returns what helm prints. Raises Refused with its error."""
    return _run("helm", *arguments)


def kubectl(*arguments: str | Path, text: str | None = None) -> str:
    """Returns what kubectl prints, given `text` on standard input. Raises Refused with its error."""
    return _run("kubectl", *arguments, text=text)


def _run(*command: str | Path, text: str | None = None) -> str:
    done = subprocess.run([*map(str, command)], input=text, capture_output=True, text=True, check=False, timeout=60)
    if done.returncode:
        raise Refused(done.stderr)
    return done.stdout


def template(*arguments: str | Path, release: str = RELEASE, namespace: str = NAMESPACE) -> str:
    """Returns the manifests of a release as text. Raises Refused with helm's error."""
    return helm("template", release, CHART, "--namespace", namespace, *arguments)


def parse(text: str) -> list[dict[str, Any]]:
    """Returns the objects in manifests."""
    return [item for item in yaml.load_all(text, Loader=_LOADER) if item]


def values(**settings: Any) -> Sequence[str]:
    """Returns the arguments that set values: `values(**{"gateway.replicas": 3})`."""
    return [word for key, value in settings.items() for word in ("--set-json", f"{key}={json.dumps(value)}")]


def has_helm() -> bool:
    """Says whether helm can be started."""
    return shutil.which("helm") is not None


def has_cluster() -> bool:
    """Says whether kubectl and a cluster that answers are there."""
    if shutil.which("kubectl") is None or not os.environ.get("KUBECONFIG"):
        return False
    try:
        kubectl("version", "--request-timeout=5s")
    except Refused:
        return False
    return True
