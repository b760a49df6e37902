"""Pools that an autoscaler sizes: Kubernetes' own by CPU, KEDA by the scheduler's scaler, or the scheduler itself."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from infermesh.client import Client, Retry, batching
from tests.cluster.kubectl import is_ready, run, until
from tests.cluster.load import Load
from tests.cluster.release import Forward
from tests.cluster.serving import plain_client
from tests.mesh import models

MOST = 3
COLD = 120.0  # seconds that a call may wait for the first worker
SLEEPS = 0.2  # seconds of a call that takes no CPU
BURNS = 0.02  # seconds of CPU of a call
SOON = {"min": 0, "max": MOST, "scale_down_delay": 5, "zero_delay": 10}
POOLS = {
    "cpu": {
        "autoscaling": {"mode": "hpa", "min": 1, "max": MOST, "cpu": 50, "scale_down_delay": 5},
        "resources": {"requests": {"cpu": "250m"}},
    },
    "push": {"device": "cpu", "autoscaling": {"mode": "keda", **SOON}},
    "own": {"device": "cpu", "autoscaling": {"mode": "builtin", **SOON}},
}
FROM_ZERO = ("push", "own")
RATES = {"cpu": 25, "push": 12, "own": 12}  # calls per second that need all the workers that a pool may have


@pytest.fixture(scope="module")
def keda():
    """Skips where KEDA is not installed."""
    if "scaledobjects.keda.sh" not in run("kubectl", "get", "crds", "--output=jsonpath={.items[*].metadata.name}"):
        pytest.skip("needs KEDA")


@pytest.fixture(scope="module")
def scaled(new_release, keda, tmp_path_factory):
    """A release of three pools, each with a deployment of its name that takes a while for each call."""
    made = new_release("scaled", pools=POOLS)
    made.install()
    folder = tmp_path_factory.mktemp("slow")
    burning = folder / "burning.py"
    burning.write_text(
        "import time\n\n\nclass Model:\n    def infer(self, inputs):\n"
        f"        end = time.thread_time() + {BURNS}\n        while time.thread_time() < end:\n            pass\n"
        "        return {'y': inputs['x'] * 2 + 1}\n"
    )
    sleeping = models.python_file(folder, 2, SLEEPS)
    with Forward(made.kube, f"{made.fullname}-gateway", 8080) as gateway, Client(gateway.address) as client:
        for pool, file in (("cpu", burning), ("push", sleeping), ("own", sleeping)):
            client.push(pool, {"model.py": file}, backend="python", signature=models.SIGNATURE)
            alone = batching(max_batch_size=1)
            wait = pool not in FROM_ZERO
            client.deploy(pool, version=1, replicas="all", pool=pool, batching=alone, wait=wait)
    yield made
    made.end()


def wait_for(release, count, pools, timeout):
    """Waits until each of the pools has so many pods, all of them ready."""

    def sizes():
        ready = {pool: [] for pool in pools}
        for pod in release.pods("worker"):  # those that are ending included
            ready.get(pod["metadata"]["labels"]["infermesh.io/pool"], []).append(is_ready(pod))
        return ready

    until(lambda: all(ready == [True] * count for ready in sizes().values()), f"{count} pods", timeout=timeout, pause=2)


def test_a_call_is_held_until_the_first_worker_of_its_pool_is_ready(scaled, tell):
    wait_for(scaled, 0, FROM_ZERO, 90)

    def ask(pool):
        began = time.monotonic()
        with (
            Forward(scaled.kube, f"{scaled.fullname}-gateway", 8080) as gateway,
            Client(gateway.address, retry=Retry(attempts=1)) as client,
        ):
            answer = client.infer(pool, {"x": models.ROW}, timeout=COLD)["y"]
        assert answer.tolist() == models.answer(models.ROW, 2)["y"].tolist()
        return f"{pool} {time.monotonic() - began:.1f} s"

    with ThreadPoolExecutor() as threads:
        took = list(threads.map(ask, FROM_ZERO))
    tell(f"first answers from zero: {', '.join(took)}")


def test_pools_grow_under_load_and_shrink_after_it_without_a_failed_call(scaled, place, tell):
    calm = {"clients": [plain_client(scaled, pool, pool, 1) for pool in POOLS]}
    patient = {"timeout": COLD}  # what comes before the pools have grown waits its turn
    much = {"clients": [plain_client(scaled, pool, pool, rate) | patient for pool, rate in RATES.items()]}
    with Load(scaled.kube, place, calm, name="calm", warm=3) as calm_load:
        with Load(scaled.kube, place, much, name="much") as load:
            began = time.monotonic()
            wait_for(scaled, MOST, POOLS, 180)
            grew = time.monotonic() - began
        began = time.monotonic()
        wait_for(scaled, 1, POOLS, 180)
        shrank = time.monotonic() - began
    wait_for(scaled, 0, FROM_ZERO, 120)
    tell(f"much: {load}")
    tell(f"calm: {calm_load}")
    tell(f"1→{MOST} in {grew:.0f} s, {MOST}→1 in {shrank:.0f} s")
    load.check(500)
    calm_load.check(50)
