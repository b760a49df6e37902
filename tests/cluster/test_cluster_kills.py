"""Workers that are killed say no goodbye: the calls that they had are sent again elsewhere."""

from tests.cluster.load import Load
from tests.cluster.serving import usual_load

CALLS = 5_000  # what happens takes but a moment


def test_workers_deleted_by_force_fail_no_call(release, settings, place, tell):
    what = usual_load(release, settings.rate) | {"streams": []}  # a stream that has begun is lost with its worker
    with Load(release.kube, place, what) as load:
        load.until(1_000)
        for number in (1, 2):
            load.doing(f"forced deletion {number}")
            release.delete_pod("worker", force=True)
        load.until(CALLS)
    tell(str(load))
    load.check(CALLS)
