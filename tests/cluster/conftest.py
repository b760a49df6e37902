"""Releases on the cluster that KUBECONFIG names. Without one, or without kubectl and helm, all tests are skipped.

Two processes may share the tests (`-n 2 --no-loadscope-reorder`): processes.py tells how.
"""

import fcntl
import os
import secrets
import shutil

import pytest

from tests.cluster.kubectl import CommandFailed, Kubectl, run
from tests.cluster.load import Load, Place
from tests.cluster.processes import FOLDER, rank
from tests.cluster.release import Release
from tests.cluster.serving import serve, usual_load
from tests.cluster.settings import Settings
from tests.mesh import models

SETTINGS = Settings.read(os.environ)  # here: the environment of the tests has none of ours
RESTRICTED = {f"pod-security.kubernetes.io/{mode}": "restricted" for mode in ("enforce", "warn", "audit")}


def pytest_collection_modifyitems(items):
    for item in items:
        if FOLDER in item.path.as_posix():
            item.add_marker(pytest.mark.cluster)
            item.add_marker(pytest.mark.timeout(600))
    items.sort(key=lambda item: rank(item.path))


@pytest.fixture(scope="package", autouse=True)
def _shared(tmp_path_factory, worker_id):
    """Holds the cluster together with the tests of other processes."""
    folder = tmp_path_factory.getbasetemp()
    with open((folder if worker_id == "master" else folder.parent) / "cluster.lock", "w") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        yield file


@pytest.fixture(scope="module")
def alone(_shared):
    """Holds the cluster alone: for what other releases would notice."""
    fcntl.flock(_shared, fcntl.LOCK_EX)
    yield
    fcntl.flock(_shared, fcntl.LOCK_SH)


@pytest.fixture(scope="session")
def settings():
    """What the environment says about the cluster."""
    return SETTINGS


@pytest.fixture(scope="session", autouse=True)
def _cluster():
    for program in ("kubectl", "helm"):
        if shutil.which(program) is None:
            pytest.skip(f"no {program} on PATH")
    try:
        run("kubectl", "version", "--request-timeout=10s")
    except CommandFailed as error:
        pytest.skip(f"no cluster answers; KUBECONFIG names one: {error}")


@pytest.fixture(scope="session")
def nodes():
    """Names of the nodes that take pods: those that are never cut off first."""
    found = Kubectl("default").get("nodes")["items"]
    able = [node["metadata"]["name"] for node in found if not node["spec"].get("unschedulable")]
    return sorted(able, key=lambda name: name == SETTINGS.victim)


@pytest.fixture(scope="package")
def make_namespace():
    """Makes namespaces that take only restricted pods; they are gone after the tests of this folder."""
    made = []

    def make(kind):
        name = f"infermesh-test-{kind}-{secrets.token_hex(2)}"
        kube = Kubectl(name)
        made.append(kube)
        labels = RESTRICTED | {"infermesh-test": "true"}
        kube.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name, "labels": labels}})
        return kube

    yield make
    for kube in made:
        kube("delete", "namespace", kube.namespace, "--wait=false", "--ignore-not-found")


@pytest.fixture(scope="session")
def values():
    """Values of every release: the images under test, and pods that ask for little, so that many fit."""
    small = {"requests": {"cpu": "50m", "memory": "128Mi"}}
    image = {"tag": SETTINGS.tag, "pullPolicy": "IfNotPresent"} | (
        {"registry": SETTINGS.registry} if SETTINGS.registry else {}
    )
    components = {name: {"resources": small} for name in ("gateway", "registry", "scheduler")}
    return {"image": image, **components, "worker": {"resources": small, "config": {"allow_python": True}}}


@pytest.fixture(scope="session")
def model(tmp_path_factory):
    """A model file: y = 2x + 1."""
    return models.onnx_file(tmp_path_factory.mktemp("models"), 2)


@pytest.fixture(scope="package")
def new_release(make_namespace, values):
    """Makes releases, not yet installed, each in a namespace of its own."""

    def make(kind, **more):
        kube = make_namespace(kind)
        return Release(kube, f"mesh-{secrets.token_hex(2)}", values | more)

    return make


@pytest.fixture(scope="package")
def release(new_release, model):
    """An installed release that serves `served` (y = 2x + 1) and `tokens` (twenty a second) on every worker.

    Two gateways and two workers: who changes that puts it right again.
    """
    made = new_release("shared")
    made.install()
    serve(made, model)
    return made


@pytest.fixture(scope="session")
def place(nodes):
    """Where clients run: on the node that is never cut off or drained."""
    registry = f"{SETTINGS.registry}/" if SETTINGS.registry else ""
    return Place(f"{registry}infermesh-gateway:{SETTINGS.tag}", node=nodes[0])


@pytest.fixture(scope="module")
def load(release, place, settings):
    """The load of most tests, on each public port: a client that keeps one connection, one that balances itself, and
    long token streams.

    It goes on from one test to the next; each turns the page, and checks its own. What is under way at the end of the
    last is checked after it.
    """
    with Load(release.kube, place, usual_load(release, settings.rate)) as made:
        yield made
    made.check(0)
