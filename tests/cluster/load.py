"""Load from inside the cluster: a pod with the clients of `in_pod/calls.py`, and their books."""

import json
import time
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from tests.cluster.kubectl import CommandFailed, Kubectl, Object, until

START = "the start"
CPU = "500m"  # what clients need, so that pods which start beside them can't make them late
TOLD = 5  # failures of each client that are told in full
STREAMS = "streams"  # how the names of clients begin that take token streams
SCRIPTS = Path(__file__).parent / "in_pod"


def script_map(name: str) -> Object:
    """Returns a ConfigMap with the scripts that run in pods."""
    data = {path.name: path.read_text() for path in SCRIPTS.glob("*.py")}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data}


@dataclass(frozen=True)
class Place:
    """Where a pod of ours runs: on that node, or anywhere. Its share of the CPU where there is too little is `cpu`."""

    image: str
    policy: str = "IfNotPresent"
    node: str = ""
    cpu: str = "10m"


def script_pod(name: str, script: str, place: Place, environment: dict[str, str], labels: dict[str, str]) -> Object:
    """Returns a pod that runs one of the scripts, under the restricted Pod Security standard."""
    container = {
        "name": "script",
        "image": place.image,
        "imagePullPolicy": place.policy,
        "command": ["python", f"/scripts/{script}"],
        "env": [{"name": key, "value": value} for key, value in environment.items()],
        "resources": {"requests": {"cpu": place.cpu, "memory": "64Mi"}},
        "securityContext": {
            "allowPrivilegeEscalation": False,
            "readOnlyRootFilesystem": True,
            "capabilities": {"drop": ["ALL"]},
        },
        "volumeMounts": [{"name": "scripts", "mountPath": "/scripts"}, {"name": "tmp", "mountPath": "/tmp"}],
    }
    spec = {
        "restartPolicy": "Never",
        "automountServiceAccountToken": False,
        "enableServiceLinks": False,
        "terminationGracePeriodSeconds": 1,
        "securityContext": {"runAsNonRoot": True, "runAsUser": 65532, "seccompProfile": {"type": "RuntimeDefault"}},
        "containers": [container],
        "volumes": [{"name": "scripts", "configMap": {"name": "scripts"}}, {"name": "tmp", "emptyDir": {}}],
    } | ({"nodeSelector": {"kubernetes.io/hostname": place.node}} if place.node else {})
    return {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "labels": labels}, "spec": spec}


class Load:
    """Clients in a pod, from when it is entered until it is left; then every call must have ended once, rightly.

    Entering waits for the first `warm` answers. `books` are those of the last look, since `turn` or the beginning.
    `doing` says what the test does now, for the failures' sake.
    """

    def __init__(self, kube: Kubectl, place: Place, what: Object, *, name: str = "load", warm: int = 50) -> None:
        self._kube = kube
        self._name = name
        self._warm = warm
        labels = {"infermesh-test": name}
        self._pod = script_pod(name, "calls.py", replace(place, cpu=CPU), {"LOAD": json.dumps(what)}, labels)
        self._steps: list[tuple[float, str]] = [(0.0, START)]
        self.books: dict[str, Any] = {}

    def __enter__(self) -> "Load":
        self._kube.apply(script_map("scripts"), self._pod)
        until(lambda: self.calls >= self._warm, "the first calls are answered", timeout=120.0)
        return self

    def __exit__(self, kind: object, error: object, trace: object) -> None:
        try:
            if not self.look()["ended"]:
                self._kube.exec(self._name, "sh", "-c", "kill -TERM 1")
            until(lambda: self.look()["ended"], "every call ends", timeout=330.0)
        except (AssertionError, CommandFailed):
            if error is None:
                raise
        finally:
            self._kube.delete("pod", self._name)
            until(lambda: not self._kube.items("pods", f"infermesh-test={self._name}"), "the load's pod is gone")

    def turn(self) -> None:
        """Turns the page of the books: they count from here. Calls that are under way are the new page's."""
        page = self.look()["page"] + 1
        self._kube.exec(self._name, "sh", "-c", "kill -USR1 1")
        until(lambda: self.look()["page"] == page, "a new page")
        self.doing(START)

    def doing(self, step: str) -> None:
        """Names what comes now."""
        self._steps.append((time.time(), step))

    def look(self) -> dict[str, Any]:
        """Reads the books as they are."""
        told = self._kube("logs", self._name, "--tail=1").strip()
        if told.startswith("{"):
            self.books = json.loads(told)
        elif told:
            raise AssertionError(told[:2000])  # no books: a traceback, whose end this is
        return {"ended": False} | self.books

    @property
    def calls(self) -> int:
        """Calls that have ended, token streams left out."""
        self.look()
        return sum(book["right"] + book["failed"] + book["wrong"] for book in self._plain())

    def until(self, calls: int, timeout: float = 300.0) -> None:
        """Waits until so many calls have ended since the beginning."""
        until(lambda: self.calls >= calls, f"{calls} calls", timeout=timeout, pause=1.0)

    def failures(self) -> list[str]:
        """Tells of the first failures what they were, and in which step each call began and ended."""
        told = []
        for name, book in self.books.items():
            for each in book["failures"][:TOLD] if isinstance(book, dict) else ():
                began, ended = self._step(each["at"]), self._step(each["at"] + each["took"])
                told.append(f"{name}: {each['what']}, at {each['at']:.2f} for {each['took']} s, {began} to {ended}")
        return told

    def _step(self, at: float) -> str:
        return [step for when, step in self._steps if when <= at][-1]

    def check(self, calls: int) -> None:
        """Fails unless so many calls were made, and each that has ended was answered once and rightly.

        Once the load has ended, that is every call. Until then those under way are left to the next page.
        """
        lost = {}
        for name, book in self.books.items():
            if not isinstance(book, dict):
                continue
            if book["failed"] or book["wrong"] or (self.books["ended"] and book["begun"] != book["right"]):
                lost[name] = {key: value for key, value in book.items() if key != "failures"}
        assert not lost, "\n".join([str(lost), *self.failures()])
        assert self.calls_told >= calls, self.books

    @property
    def calls_told(self) -> int:
        """Calls answered rightly by the books of the last look."""
        return sum(book["right"] for book in self._plain())

    @property
    def streams_told(self) -> list[int]:
        """Token streams that came whole by the books of the last look, for each client that has any."""
        return [book["right"] for name, book in self._clients() if name.startswith(STREAMS)]

    def _clients(self) -> list[tuple[str, Any]]:
        return [(name, book) for name, book in self.books.items() if isinstance(book, dict)]

    def _plain(self) -> list[Any]:
        return [book for name, book in self._clients() if not name.startswith(STREAMS)]

    def slowest(self, since: float, until: float) -> float:
        """Returns how long the slowest call took that began between two times; once the load has ended."""
        peaks = [book["peaks"] for book in self._plain()]
        return max((took for each in peaks for at, took in each.items() if since <= float(at) <= until), default=0.0)

    def __str__(self) -> str:
        keys = ("begun", "right", "failed", "wrong", "p50", "p99", "slowest")
        parts = [
            f"{name}: " + " ".join(f"{key} {book[key]}" for key in keys)
            for name, book in self.books.items()
            if isinstance(book, dict)
        ]
        return "; ".join([*parts, f"the clients themselves stood still for {self.books['stalled']} s at most"])
