"""A release of the chart in a namespace of its own, and what operators do to it."""

import json
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from tests.cluster.kubectl import Kubectl, Object, is_ending, is_ready, names, run, until

CHART = Path(__file__).parents[2] / "charts" / "infermesh"
POOL = "cpu"
INSTANCE = "app.kubernetes.io/instance"
COMPONENT = "app.kubernetes.io/component"
START = 240.0  # seconds that pods may take to come up on a busy machine


class Release:
    """A release by its name; `values` are those of the latest install or upgrade."""

    def __init__(self, kube: Kubectl, name: str, values: Object) -> None:
        self.kube = kube
        self.name = name
        self.values = values
        self.fullname = name if "infermesh" in name else f"{name}-infermesh"

    # ── helm ────────────────────────────────────────────────────────────────────────────────────────────────────────

    def helm(self, *arguments: str, timeout: float = 300.0) -> str:
        """Runs helm in the namespace. Raises CommandFailed."""
        return run("helm", "--namespace", self.kube.namespace, *arguments, timeout=timeout)

    def install(self) -> None:
        """Installs the chart and waits until all is ready."""
        self._put("install")

    def upgrade(self, **changes: Any) -> None:
        """Upgrades to other values, merged at top level, and waits."""
        self.values = self.values | changes
        self._put("upgrade")

    def rollback(self) -> None:
        """Goes back to the revision before, and waits."""
        self.helm("rollback", self.name, "--wait", f"--timeout={START:.0f}s")

    def uninstall(self) -> str:
        """Uninstalls it, waits until its objects are gone, and returns what helm says."""
        return self.helm("uninstall", self.name, "--wait", "--timeout=120s")

    def end(self) -> None:
        """Takes it away with its namespace, without waiting."""
        self.kube("delete", "namespace", self.kube.namespace, "--wait=false", "--ignore-not-found")

    def _put(self, verb: str) -> None:
        with tempfile.NamedTemporaryFile("w", suffix=".json") as file:
            json.dump(self.values, file)
            file.flush()
            self.helm(verb, self.name, str(CHART), "--values", file.name, "--wait", f"--timeout={START:.0f}s")

    # ── objects ─────────────────────────────────────────────────────────────────────────────────────────────────────

    def selector(self, component: str = "") -> str:
        """Returns the label selector of a component, or of all."""
        return f"{INSTANCE}={self.name}" + (f",{COMPONENT}={component}" if component else "")

    def pods(self, component: str = "") -> list[Object]:
        """Returns pods, those that are ending included."""
        return self.kube.items("pods", self.selector(component))

    def workload(self, component: str) -> str:
        """Returns kind/name of a component's only workload."""
        (found,) = self.kube.items("deployments,statefulsets", self.selector(component))
        return f"{found['kind'].lower()}/{found['metadata']['name']}"

    def service(self, component: str) -> str:
        """Returns the name within the cluster of a component's service."""
        return f"{self.fullname}-{component}.{self.kube.namespace}.svc.cluster.local"

    # ── what operators do ───────────────────────────────────────────────────────────────────────────────────────────

    def scale(self, replicas: int, *components: str) -> None:
        """Scales components side by side and waits until each has exactly so many pods that stay, all ready."""
        for component in components:
            self.kube("scale", self.workload(component), f"--replicas={replicas}")
        for component in components:
            self.settled(component, replicas)

    def restart(self, *components: str) -> None:
        """Restarts components side by side, each by a rollout, and waits for the end of all."""
        workloads = list(map(self.workload, components))
        self.kube("rollout", "restart", *workloads)
        for component, workload in zip(components, workloads, strict=True):
            self.kube("rollout", "status", workload, f"--timeout={START:.0f}s", timeout=START + 10)
            self.settled(component)

    def settled(self, component: str = "", count: int | None = None, *, timeout: float = START) -> list[Object]:
        """Waits until all pods are ready, as many as are wanted, and returns them. Those that are ending don't count:
        a gateway takes half a minute for it."""

        def look() -> list[Object]:
            found = self.kube.items("pods,deployments,statefulsets", self.selector(component))
            pods = [each for each in found if each["kind"] == "Pod" and not is_ending(each)]
            wanted = count
            if wanted is None:
                wanted = sum(each["spec"]["replicas"] for each in found if each["kind"] != "Pod")
            return pods if len(pods) == wanted and all(map(is_ready, pods)) else []

        return until(look, f"{component or 'all'} ready", timeout=timeout, pause=1.0)  # type: ignore[no-any-return]

    def delete_pod(self, component: str, *, force: bool = False) -> None:
        """Deletes one pod of a component, with its grace or by force, and waits until another has taken its place."""
        pods = self.settled(component)
        grace = ["--grace-period=0", "--force"] if force else []
        self.kube("delete", "pod", names(pods)[0], "--wait=false", *grace)
        self.settled(component, len(pods))


class Forward:
    """`kubectl port-forward` to a service's port, while it is entered; `address` is on this machine's loopback."""

    def __init__(self, kube: Kubectl, service: str, port: int) -> None:
        self._command = ["kubectl", "--namespace", kube.namespace, "port-forward", f"service/{service}", f":{port}"]
        self.address = ""

    def __enter__(self) -> "Forward":
        self._process = subprocess.Popen(self._command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        assert self._process.stdout is not None
        line = self._process.stdout.readline()  # "Forwarding from 127.0.0.1:40117 -> 8080"
        assert line.startswith("Forwarding from "), line
        self.address = line.split()[2]
        return self

    def __exit__(self, *_: object) -> None:
        self._process.terminate()
        self._process.communicate(timeout=10)
