"""What lists say in a word."""

from infermesh.cli.listings import held_of
from infermesh.v1 import worker_pb2


def test_what_a_worker_holds_and_refuses() -> None:
    worker = worker_pb2.Worker()
    assert held_of(worker) == "-"
    worker.held.add(deployment="digits", version="2", state=worker_pb2.HeldVersion.READY)
    worker.held.add(deployment="words", version="1", state=worker_pb2.HeldVersion.READY, quarantined=3)
    assert held_of(worker) == "digits/2 READY, words/1 READY (3 quarantined)"
