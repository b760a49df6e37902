"""When the client sends a call again, as a function."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infermesh import errors
from infermesh.client.retry import Retry, may_repeat
from infermesh.mesh.channel import OPTIONS

LATER = errors.NotReady("later", retry_after=0.2)
AWAY = errors.NotReady("connection refused")


def pause(error: errors.MeshError, *, attempt: int = 1, safe: bool = True, left: float = 60.0) -> float | None:
    return Retry().pause(error, attempt=attempt, safe=safe, left=left, jitter=lambda: 1.0)


def test_backoff_doubles_up_to_the_longest_pause() -> None:
    retry = Retry(attempts=99)
    pauses = [retry.pause(AWAY, attempt=n, safe=True, left=60, jitter=lambda: 1.0) for n in (1, 2, 3, 20)]
    assert pauses == [0.1, 0.2, 0.4, 5.0]


def test_a_server_that_says_when_is_believed() -> None:
    assert pause(LATER) == 0.2
    assert pause(LATER, attempt=3) == 0.4


def test_the_last_attempt_and_the_deadline_end_it() -> None:
    assert pause(AWAY, attempt=5) is not None
    assert pause(AWAY, attempt=6) is None
    assert pause(AWAY, left=0.05) is None


def test_repeating_outlasts_the_back_off_of_a_channel() -> None:
    retry, longest = Retry(), dict(OPTIONS)["grpc.max_reconnect_backoff_ms"] / 1000 * 1.2  # gRPC adds 20 % of jitter
    pauses = [retry.pause(AWAY, attempt=n, safe=True, left=60, jitter=lambda: 0.0) for n in range(1, retry.attempts)]
    assert sum(pause for pause in pauses if pause is not None) > longest


def test_one_attempt_means_one() -> None:
    assert Retry(attempts=1).pause(LATER, attempt=1, safe=True, left=60) is None


@pytest.mark.parametrize(
    ("error", "safe", "unsafe"),
    [
        (LATER, True, True),
        (AWAY, True, False),
        (errors.WorkerLost("died", retry_after=0.1), True, False),
        (errors.Overloaded("full", retry_after=0.1), True, True),
        (errors.Overloaded("quota"), False, False),
        (errors.BadTensor("no"), False, False),
        (errors.DeadlineExceeded("late"), False, False),
        (errors.Internal("fault"), False, False),
    ],
)
def test_what_may_be_sent_twice(error: errors.MeshError, safe: bool, unsafe: bool) -> None:
    assert may_repeat(error, safe=True) is safe
    assert may_repeat(error, safe=False) is unsafe


@given(
    attempt=st.integers(1, 10),
    after=st.none() | st.floats(0, 100),
    left=st.floats(0, 100),
    jitter=st.floats(0, 0.999),
)
def test_a_pause_never_outlives_the_deadline_nor_undercuts_the_server(
    attempt: int, after: float | None, left: float, jitter: float
) -> None:
    retry = Retry()
    got = retry.pause(
        errors.NotReady("x", retry_after=after), attempt=attempt, safe=True, left=left, jitter=lambda: jitter
    )
    if got is not None:
        assert attempt < retry.attempts
        assert (after or 0) <= got < left
        assert got <= retry.most
