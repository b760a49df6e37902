"""Writes `k8s/rendered`: the chart with its defaults as plain manifests, for `kubectl apply -f` without Helm.

Needs `helm`. With `--check` it writes nothing, and fails if the committed files are others.
"""

import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).resolve().parent.parent
CHART: Final = ROOT / "charts" / "infermesh"
TARGET: Final = ROOT / "k8s" / "rendered"
NAMESPACE: Final = ROOT / "k8s" / "namespace.yaml"
_NAME: Final = "infermesh"  # of release and namespace
_HEADER: Final = "# Written by `make manifests`; do not edit: change charts/infermesh, or use Helm or Kustomize.\n"
_SOURCE: Final = re.compile(r"^# Source: infermesh/templates/(?P<folder>\w+)/")


def manifests() -> dict[str, str]:
    """Returns the files: the namespace first, then one for each service. Raises SystemExit if helm refuses."""
    command = ["helm", "template", _NAME, str(CHART), "--namespace", _NAME, "--skip-tests"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise SystemExit(done.stderr)
    files = {"00-namespace.yaml": _HEADER + "---\n" + NAMESPACE.read_text()}
    for document in done.stdout.split("---\n")[1:]:
        source = _SOURCE.match(document)
        if source is None:
            raise SystemExit(f"a document without a source: {document[:200]}")
        if source["folder"] == "tests":  # what `helm test` needs
            continue
        name = f"{source['folder']}.yaml"
        text = document.partition("\n")[2].rstrip() + "\n"
        files[name] = files.get(name, _HEADER) + "---\n" + text
    return {name: text.replace("managed-by: Helm", "managed-by: kubectl") for name, text in files.items()}


def differences(files: dict[str, str]) -> list[str]:
    """Returns the names of files that are committed otherwise, not at all, or in vain."""
    there = {path.name: path.read_text() for path in TARGET.glob("*")}
    return sorted(name for name in files.keys() | there if files.get(name) != there.get(name))


def main() -> None:
    """Writes or checks the files."""
    if shutil.which("helm") is None:
        raise SystemExit("helm is not on PATH: see https://helm.sh/docs/intro/install")
    files = manifests()
    changed = differences(files)
    if "--check" in sys.argv[1:]:
        if changed:
            raise SystemExit(f"k8s/rendered: not those of the chart: {', '.join(changed)}; run `make manifests`")
        return
    TARGET.mkdir(parents=True, exist_ok=True)
    for name in changed:
        if name in files:
            (TARGET / name).write_text(files[name])
        else:
            (TARGET / name).unlink()


if __name__ == "__main__":
    main()
