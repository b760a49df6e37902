"""Pools that an autoscaler sizes: Kubernetes' own by CPU, KEDA by the scheduler's scaler, or the scheduler itself."""

import time
from concurrent.futures import ThreadPoolExecutor

import pytest

from infermesh.client import Client, Retry, batching
from tests.cluster.kubectl import is_ready, names, run, until
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


def pods(release, pool):
    """Returns the pods of a pool, those that are ending included."""
    return release.kube.items("pods", f"{release.selector('worker')},infermesh.io/pool={pool}")


def wait_for(release, count, pools, timeout):
    """Waits until each of the pools has so many pods, all of them ready."""

    def sizes():
        return {pool: [is_ready(pod) for pod in pods(release, pool)] for pool in pools}

    until(lambda: all(ready == [True] * count for ready in sizes().values()), f"{count} pods", timeout=timeout, pause=2)


def test_a_call_is_held_until_the_first_worker_of_its_pool_is_ready(scaled, capsys):
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
    with capsys.disabled():
        print(f"\n  first answers from zero: {', '.join(took)}", flush=True)


def test_pools_grow_under_load_and_shrink_after_it_without_a_failed_call(scaled, place, capsys):
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
    with capsys.disabled():
        print(f"\n  {load}\n  {calm_load}\n  1→{MOST} in {grew:.0f} s, {MOST}→1 in {shrank:.0f} s", flush=True)
    load.check(500)
    calm_load.check(50)


def test_the_idle_pod_goes_and_the_busy_one_stays(release, place):
    release.scale("worker", MOST)
    stream = {"name": "streams", "target": f"dns:///{release.service('gateway')}:8080", "deployment": "tokens"}
    one = stream | {"streams": 1, "tokens": 700, "rounds": 1}  # 35 s
    with Load(release.kube, place, {"streams": [one]}, warm=0) as load:
        until(lambda: load.look().get("streams", {}).get("begun"), "the stream has begun")
        time.sleep(10)  # the scheduler writes down what each pod's end would cost every few seconds
        release.kube("scale", release.workload("worker"), "--replicas=1")
        left = until(lambda: len(release.pods("worker")) == 1 and release.pods("worker"), "one worker", timeout=20)
        assert load.look()["streams"]["right"] == 0, f"{names(left)} may have been left because the stream had ended"
        until(lambda: load.look()["streams"]["right"] >= 1, "the stream ends", timeout=60)
    load.check(0)
    release.scale("worker", 2)
