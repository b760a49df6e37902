"""The two ends of the socket understand each other, however the stream is cut."""

import random
import socket
import threading
from collections.abc import Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from infermesh.errors import BadTensor, InvalidInput, LoadFailed, MeshError, ModelFailed
from infermesh.mesh.status import from_status
from infermesh.v1 import runner_pb2
from infermesh.worker.frames import Buffer, Output, describe, describe_output, encode_error, head, split
from infermesh.worker.link import Link
from infermesh.worker.pipe import Pipe

SIZES = st.lists(st.lists(st.sampled_from([0, 1, 5, 100, 70_000, 200_000]), max_size=3), min_size=1, max_size=5)


def content(size: int, seed: int) -> bytes:
    return random.Random(seed).randbytes(size)


def reply(number: int, sizes: Sequence[int]) -> tuple[runner_pb2.RunnerReply, list[bytes]]:
    buffers = [content(size, number + at) for at, size in enumerate(sizes)]
    outputs = [
        describe_output(Output(f"t{at}", "UINT8", (len(data),), memoryview(data))) for at, data in enumerate(buffers)
    ]
    return runner_pb2.RunnerReply(id=number, outputs=outputs), buffers


def feed(link: Link, stream: bytes, cuts: random.Random) -> None:
    """Gives a stream to a link in pieces, as a transport does."""
    at = 0
    while at < len(stream):
        target = link.get_buffer(-1)
        assert len(target) > 0
        size = min(len(target), len(stream) - at, cuts.choice([1, 3, 1000, 1 << 20]))
        target[:size] = stream[at : at + size]
        link.buffer_updated(size)
        at += size


@settings(max_examples=40, deadline=None)
@given(SIZES, st.integers(0, 1000))
def test_replies_survive_any_cut(sizes: list[list[int]], seed: int) -> None:
    sent = [reply(number, parts) for number, parts in enumerate(sizes, 1)]
    got: list[tuple[int, list[bytes]]] = []
    link = Link(lambda r, payload: got.append((r.id, [bytes(p) for p in split(r.outputs, payload)])), lambda: None)
    feed(link, b"".join(head(r) + b"".join(buffers) for r, buffers in sent), random.Random(seed))
    assert got == [(r.id, buffers) for r, buffers in sent]


def test_a_header_may_be_larger_than_the_scratch() -> None:
    got: list[str] = []
    link = Link(lambda r, payload: got.append(r.error.message), lambda: None)
    large = runner_pb2.RunnerReply(id=1)
    large.error.message = "x" * 300_000
    feed(link, head(large) * 2, random.Random(1))
    assert [len(text) for text in got] == [300_000] * 2


def test_payloads_outlive_what_is_received_next() -> None:
    kept: list[memoryview] = []
    link = Link(lambda r, payload: kept.append(payload), lambda: None)
    for number in (1, 2, 3):
        r, buffers = reply(number, [1000])
        feed(link, head(r) + buffers[0], random.Random(0))
    assert [bytes(payload) for payload in kept] == [content(1000, number) for number in (1, 2, 3)]


def test_the_end_is_told_once() -> None:
    ends: list[int] = []
    Link(lambda r, payload: None, lambda: ends.append(1)).connection_lost(None)
    assert ends == [1]


@settings(max_examples=20, deadline=None)
@given(SIZES)
def test_commands_and_replies_pass_through_a_socket(sizes: list[list[int]]) -> None:
    ours, theirs = socket.socketpair()

    def write() -> None:
        with ours:
            for number, parts in enumerate(sizes, 1):
                buffers = [Buffer(f"t{at}", "UINT8", [n], [content(n, number)]) for at, n in enumerate(parts)]
                run = runner_pb2.RunCommand(inputs=[describe(buffer) for buffer in buffers])
                ours.sendall(head(runner_pb2.RunnerCommand(id=number, run=run)))
                for buffer in buffers:
                    ours.sendall(buffer.parts[0])

    writer = threading.Thread(target=write)
    writer.start()
    with theirs:
        pipe = Pipe(theirs)
        for number, parts in enumerate(sizes, 1):
            received = pipe.receive()
            assert received is not None
            command, payload = received
            assert command.id == number
            assert [bytes(p) for p in split(command.run.inputs, payload)] == [content(n, number) for n in parts]
        assert pipe.receive() is None
    writer.join()


def test_a_pipe_sends_more_than_a_socket_holds() -> None:
    ours, theirs = socket.socketpair()
    r, buffers = reply(1, [3_000_000, 0, 5])
    received = bytearray()

    def read() -> None:
        while data := theirs.recv(1 << 16):
            received.extend(data)

    reader = threading.Thread(target=read)
    reader.start()
    with ours:
        Pipe(ours).send(r, buffers)
    reader.join()
    theirs.close()
    assert bytes(received) == head(r) + b"".join(buffers)


def test_a_pipe_that_is_cut_within_a_frame_has_ended() -> None:
    for cut in (2, 6, -1):
        ours, theirs = socket.socketpair()
        buffer = Buffer("x", "UINT8", [100], [bytes(100)])
        command = runner_pb2.RunnerCommand(id=1, run=runner_pb2.RunCommand(inputs=[describe(buffer)]))
        with ours:
            ours.sendall((head(command) + bytes(100))[:cut])
        with theirs:
            assert Pipe(theirs).receive() is None


def test_a_payload_is_writable_and_private() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pipe = Pipe(theirs)
        views = []
        for value in (b"a", b"b"):
            buffer = Buffer("x", "UINT8", [1], [value])
            ours.sendall(head(runner_pb2.RunnerCommand(run=runner_pb2.RunCommand(inputs=[describe(buffer)]))) + value)
            received = pipe.receive()
            assert received is not None
            views.append(received[1])
        assert [bytes(view) for view in views] == [b"a", b"b"]
        assert not views[0].readonly


def test_a_buffer_of_parts_is_described_as_one() -> None:
    spec = describe(Buffer("x", "FP32", [3, 1], [bytes(4), memoryview(bytes(8))]))
    assert (spec.name, spec.datatype, list(spec.shape), spec.size_bytes) == ("x", "FP32", [3, 1], 12)


@pytest.mark.parametrize(
    "error",
    [
        InvalidInput("no"),
        BadTensor.of("x", "FP32[2]", "FP64[2]"),
        LoadFailed("golden", reason="GOLDEN_CHECK_FAILED"),
        ModelFailed("ValueError: x"),
    ],
)
def test_errors_are_the_same_on_the_other_side(error: MeshError) -> None:
    back = from_status(encode_error(error))
    assert type(back) is type(error)
    assert (back.message, back.reason, back.metadata, back.violations) == (
        error.message,
        error.reason,
        error.metadata,
        error.violations,
    )
