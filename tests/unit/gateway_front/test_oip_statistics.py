"""Sums over workers."""

from hypothesis import given
from hypothesis import strategies as st

from infermesh.gateway.frontends.oip.statistics import merge
from infermesh.oip.v2 import grpc_service_pb2 as oip

counts = st.integers(0, 1000)


@st.composite
def parts(draw):
    part = oip.ModelStatistics(
        name=draw(st.sampled_from(["a", "b"])), version=draw(st.sampled_from(["2", "10"])), inference_count=draw(counts)
    )
    part.execution_count = draw(counts)
    part.last_inference = draw(counts)
    for field in ("success", "queue", "compute_infer", "cache_hit"):
        duration = getattr(part.inference_stats, field)
        duration.count, duration.ns = draw(counts), draw(counts)
    for size in draw(st.sets(st.integers(1, 4))):
        batch = part.batch_stats.add(batch_size=size)
        batch.compute_infer.count = draw(counts)
    part.response_stats["0"].success.count = draw(counts)
    return part


@given(st.lists(parts()))
def test_nothing_is_lost_and_nothing_twice(found):
    whole = merge(found, []).model_stats
    assert len({(m.name, m.version) for m in whole}) == len(whole)
    for key in {(p.name, p.version) for p in found}:
        (message,) = [m for m in whole if (m.name, m.version) == key]
        mine = [p for p in found if (p.name, p.version) == key]
        assert message.inference_count == sum(p.inference_count for p in mine)
        assert message.last_inference == max(p.last_inference for p in mine)
        assert message.inference_stats.queue.ns == sum(p.inference_stats.queue.ns for p in mine)
        assert message.response_stats["0"].success.count == sum(p.response_stats["0"].success.count for p in mine)
        for batch in message.batch_stats:
            of_size = [b for p in mine for b in p.batch_stats if b.batch_size == batch.batch_size]
            assert batch.compute_infer.count == sum(b.compute_infer.count for b in of_size)
        sizes = [b.batch_size for b in message.batch_stats]
        assert sizes == sorted(set(sizes))


def test_versions_are_in_the_order_of_their_numbers():
    whole = merge([], [("a", "10"), ("a", "9"), ("a", "prod")]).model_stats
    assert [m.version for m in whole] == ["prod", "9", "10"]


def test_a_version_that_nobody_has_called_has_zeros_and_all_durations():
    (message,) = merge([], [("a", "1")]).model_stats
    assert all(message.inference_stats.HasField(f.name) for f in oip.InferStatistics.DESCRIPTOR.fields)


def test_the_parts_are_left_as_they_are():
    part = oip.ModelStatistics(name="a", version="1", inference_count=1)
    part.batch_stats.add(batch_size=1).compute_infer.count = 1
    before = part.SerializeToString()
    merge([part, part], [])
    assert part.SerializeToString() == before
