"""Which pod goes when a pool shrinks."""

import time

from tests.cluster.kubectl import names, until
from tests.cluster.load import Load

MOST = 3


def test_the_idle_pod_goes_and_the_busy_one_stays(release, place):
    release.scale(MOST, "worker")
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
    release.scale(2, "worker")
