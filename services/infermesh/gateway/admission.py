"""Admission: what is refused before it takes a place anywhere. Used by the dispatcher."""

from dataclasses import dataclass
from typing import Annotated

from pydantic import Field as Limit

from infermesh.errors import DeadlineExceeded, InvalidInput, MeshError, NotReady, Overloaded
from infermesh.gateway.calls import Call

_FROM_0 = Limit(ge=0)
_FROM_1 = Limit(ge=1)
_ABOVE_0 = Limit(gt=0)


@dataclass(frozen=True)
class Limits:
    """Limits of the dispatcher. Times are in seconds, sizes in bytes."""

    max_payload: Annotated[int, _FROM_0, "largest request in bytes; 0 means no limit"] = 0
    max_queue: Annotated[
        int, _FROM_1, "calls that may wait for one model version, where its deployment doesn't say"
    ] = 10_000
    max_waiting_bytes: Annotated[int, _FROM_1, "bytes of requests that may wait for workers, over all models"] = 1 << 30
    max_unread_bytes: Annotated[int, _FROM_1, "bytes of responses that a stream's reader may be behind"] = 8 << 20
    hold: Annotated[float, _FROM_0, "seconds that a call is held while the workers of its model are away"] = 5.0
    cold_start: Annotated[
        float, _FROM_0, "seconds that a call is held while the pool of its model grows from nothing"
    ] = 120.0
    settle: Annotated[
        float, _FROM_0, "seconds that workers which a restarted scheduler doesn't know yet are trusted"
    ] = 10.0
    connect_timeout: Annotated[float, _ABOVE_0, "seconds until a worker must have said its load on a new stream"] = 5.0
    max_attempts: Annotated[int, _FROM_1, "times that one call is sent at most, while its deadline lasts"] = 5
    silence: Annotated[float, _ABOVE_0, "seconds without a word from a busy worker until it is asked to answer"] = 0.25
    probe_timeout: Annotated[float, _ABOVE_0, "seconds until one that was asked counts as gone"] = 1.0
    retry_budget: Annotated[float, _FROM_0, "calls sent again, as a share of all calls"] = 0.1
    retry_floor: Annotated[float, _FROM_0, "calls per second that may be sent again however few calls there are"] = 10.0
    retry_reserve: Annotated[int, _FROM_1, "calls that may be sent again before any budget was earned"] = 1_000
    bundle_bytes: Annotated[int, _FROM_1, "requests are sent in bundles of about this many bytes at most"] = 4 << 20


def check(call: Call, limits: Limits, now: float) -> MeshError | None:
    """Returns why the call can't be taken at all, or None."""
    if call.deadline is not None and call.deadline <= now:
        return too_late(call)
    if limits.max_payload and len(call.payload) > limits.max_payload:
        return InvalidInput(
            f"request: expected at most {limits.max_payload} bytes, got {len(call.payload)}",
            metadata={"limit": str(limits.max_payload), "size": str(len(call.payload))},
            reason="REQUEST_TOO_LARGE",
        )
    return None


def too_late(call: Call) -> DeadlineExceeded:
    """Returns the error of a call whose deadline has passed."""
    return DeadlineExceeded(
        f"deadline passed before model '{call.deployment}' answered", metadata={"model": call.deployment}
    )


def queue_full(call: Call, limit: int, retry_after: float) -> Overloaded:
    """Returns the error of a call that finds the queue of its model full."""
    return Overloaded(
        f"model '{call.deployment}': {limit} calls are waiting already, try again later",
        metadata={"model": call.deployment, "limit": str(limit)},
        retry_after=retry_after,
        reason="QUEUE_FULL",
    )


def hopeless(call: Call, wait: float) -> Overloaded:
    """Returns the error of a call that would wait, about `wait` seconds, for an answer after its deadline."""
    return Overloaded(
        f"model '{call.deployment}': too many calls are waiting for this one to be answered by its deadline",
        metadata={"model": call.deployment},
        retry_after=max(0.1, wait),
        reason="DEADLINE_UNREACHABLE",
    )


def memory_full(call: Call, limit: int, retry_after: float) -> Overloaded:
    """Returns the error of a call for which the gateway has no room left to wait in."""
    return Overloaded(
        f"model '{call.deployment}': {limit} bytes of requests are waiting already, try again later",
        metadata={"model": call.deployment, "limit": str(limit)},
        retry_after=retry_after,
        reason="WAITING_BYTES_FULL",
    )


def no_worker(call: Call, held: float, retry_after: float) -> NotReady:
    """Returns the error of a call whose model's workers have been away for too long."""
    return NotReady(
        f"model '{call.deployment}': no worker that has it could be reached for {held:g} s, try again later",
        metadata={"model": call.deployment},
        retry_after=retry_after,
        reason="NO_WORKER",
    )


def not_yet(call: Call, retry_after: float) -> NotReady:
    """Returns the error of a call whose deadline passed while the first worker of its pool was still to come."""
    return NotReady(
        f"model '{call.deployment}': its first worker is still starting, and the call's deadline has passed: try again",
        metadata={"model": call.deployment},
        retry_after=retry_after,
        reason="NO_WORKER",
    )


def reader_too_slow(call: Call, limit: int) -> Overloaded:
    """Returns the error of a streamed call whose caller does not read."""
    return Overloaded(
        f"model '{call.deployment}': more than {limit} bytes of responses were not read in time",
        metadata={"model": call.deployment, "limit": str(limit)},
        reason="READER_TOO_SLOW",
    )


def stopped(call: Call) -> NotReady:
    """Returns the error of a call that the gateway can't finish because it ends."""
    return NotReady(
        f"model '{call.deployment}': the gateway is stopping",
        metadata={"model": call.deployment},
        retry_after=1.0,
        reason="GATEWAY_STOPPING",
    )
