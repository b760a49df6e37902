"""What lists say in a word."""

from infermesh.cli.listings import held_of, ready_of
from infermesh.v1 import deployment_pb2, worker_pb2


def test_what_a_worker_holds_and_refuses() -> None:
    worker = worker_pb2.Worker()
    assert held_of(worker) == "-"
    worker.held.add(deployment="digits", version="2", state=worker_pb2.HeldVersion.READY)
    worker.held.add(deployment="words", version="1", state=worker_pb2.HeldVersion.READY, quarantined=3)
    assert held_of(worker) == "digits/2 READY, words/1 READY (3 quarantined)"


def test_how_many_workers_have_a_deployment_ready() -> None:
    versions = [deployment_pb2.VersionStatus(version="1", ready_replicas=2)]
    assert ready_of(deployment_pb2.Deployment(versions=versions, replicas=3)) == "1: 2/3"
    assert ready_of(deployment_pb2.Deployment(versions=versions, replicas=3, all_workers=True)) == "1: 2/all"
