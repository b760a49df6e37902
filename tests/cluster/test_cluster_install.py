"""From an empty namespace to a first answer, and back to an empty namespace."""

import time

import tritonclient.grpc as triton

from infermesh.client import Client
from tests.cluster.kubectl import run, until
from tests.cluster.release import POOL, Forward
from tests.mesh import models

PROMISE = 90.0  # seconds from `helm install` to the first answer, images present
# what every namespace has by itself, or for a while after objects are gone
ALWAYS = ("configmap/kube-root-ca.crt", "serviceaccount/default", "event", "podmetrics.", "endpoint")


def everything(kube):
    """Returns kind/name of all objects in the namespace."""
    kinds = run("kubectl", "api-resources", "--verbs=list", "--namespaced", "--output=name").split()
    found = kube("get", ",".join(kinds), "--output=name", "--ignore-not-found", "--show-kind").split()
    return sorted(name for name in found if not name.startswith(ALWAYS))


def test_a_first_answer_comes_soon_and_an_uninstall_leaves_the_volume_alone(new_release, model, tell):
    release = new_release("install")
    assert everything(release.kube) == []
    began = time.monotonic()
    release.install()
    installed = time.monotonic() - began
    with Forward(release.kube, f"{release.fullname}-gateway", 8080) as gateway:
        with Client(gateway.address) as client:
            client.push("first", model, samples=models.samples(2))
            client.deploy("first", version=1, replicas="all", pool=POOL)
        assert infer(gateway.address) == [[1.0, 3.0, 5.0, 7.0]]
    took = time.monotonic() - began
    tell(f"installed after {installed:.1f} s, first answer after {took:.1f} s")
    assert took < PROMISE
    with Forward(release.kube, f"{release.fullname}-gateway", 8081) as gateway:  # of gRPC alone
        assert infer(gateway.address) == [[1.0, 3.0, 5.0, 7.0]]
    release.helm("test", release.name, "--timeout=120s")
    assert "PersistentVolumeClaim" in release.uninstall()
    volume = [f"persistentvolumeclaim/{release.fullname}-registry"]
    until(lambda: everything(release.kube) == volume, "only the volume is left", timeout=120.0)


def infer(address):
    """Asks the deployment `first` through tritonclient."""
    with triton.InferenceServerClient(address) as client:
        x = triton.InferInput("x", [1, models.WIDTH], "FP32")
        x.set_data_from_numpy(models.ROW)
        return client.infer("first", [x]).as_numpy("y").tolist()
