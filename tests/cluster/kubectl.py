"""kubectl for tests: one namespace, objects as JSON, and waiting with a reason when the wait was in vain."""

import json
import subprocess
import time
from collections.abc import Callable
from typing import Any

Object = dict[str, Any]


class CommandFailed(AssertionError):
    """A command ended with an error; the message has what it said."""


def run(*command: str, stdin: str | None = None, timeout: float = 120.0) -> str:
    """Runs a command and returns what it printed. Raises CommandFailed with its complaint."""
    done = subprocess.run(command, input=stdin, capture_output=True, text=True, timeout=timeout, check=False)
    if done.returncode:
        raise CommandFailed(f"{' '.join(command)}\n{done.stdout[-2000:]}{done.stderr[-4000:]}")
    return done.stdout


def until(check: Callable[[], Any], what: str, *, timeout: float = 60.0, pause: float = 0.5) -> Any:
    """Returns the first true answer of `check`; fails with `what` was waited for, and the last answer, after `timeout`.

    A command of `check` that fails counts as a false answer.
    """
    limit = time.monotonic() + timeout
    while True:
        try:
            answer = check()
        except (CommandFailed, subprocess.TimeoutExpired) as error:
            answer = None
            last: Any = error
        else:
            last = answer
        if answer:
            return answer
        assert time.monotonic() < limit, f"{timeout:.0f} s waited in vain: {what}; last: {last!r}"
        time.sleep(pause)


class Kubectl:
    """kubectl in one namespace."""

    def __init__(self, namespace: str) -> None:
        self.namespace = namespace

    def __call__(self, *arguments: str, stdin: str | None = None, timeout: float = 120.0) -> str:
        """Runs kubectl and returns what it printed. Raises CommandFailed."""
        return run("kubectl", "--namespace", self.namespace, *arguments, stdin=stdin, timeout=timeout)

    def get(self, *arguments: str) -> Object:
        """Returns one object, or a list object."""
        return json.loads(self("get", *arguments, "--output=json"))  # type: ignore[no-any-return]

    def items(self, kind: str, selector: str = "") -> list[Object]:
        """Returns the objects of a kind that a label selector chooses."""
        return self.get(kind, f"--selector={selector}")["items"]  # type: ignore[no-any-return]

    def apply(self, *objects: Object) -> None:
        """Creates or changes objects."""
        self("apply", "--filename=-", stdin=json.dumps({"apiVersion": "v1", "kind": "List", "items": list(objects)}))

    def delete(self, *arguments: str) -> None:
        """Deletes objects at once; those that are not there are none."""
        self("delete", *arguments, "--ignore-not-found", "--grace-period=0", "--force", "--wait=false")

    def exec(self, pod: str, *command: str, timeout: float = 120.0) -> str:
        """Runs a command in a pod's first container."""
        return self("exec", pod, "--", *command, timeout=timeout)


def is_ready(pod: Object) -> bool:
    """Says whether a pod is ready, and is not being deleted."""
    conditions = pod["status"].get("conditions", ())
    ready = any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)
    return ready and not is_ending(pod)


def is_ending(pod: Object) -> bool:
    """Says whether a pod is being deleted."""
    return "deletionTimestamp" in pod["metadata"]


def names(objects: list[Object]) -> list[str]:
    """Returns the names of objects."""
    return [each["metadata"]["name"] for each in objects]
