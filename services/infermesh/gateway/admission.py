"""Admission: what is refused before it takes a place anywhere. Used by the dispatcher."""

from dataclasses import dataclass
from typing import Annotated

from infermesh.errors import DeadlineExceeded, InvalidInput, MeshError, NotReady, Overloaded
from infermesh.gateway.calls import Call


@dataclass(frozen=True)
class Limits:
    """Limits of the dispatcher. Times are in seconds, sizes in bytes."""

    max_payload: Annotated[int, "largest request in bytes; 0 means no limit"] = 0
    max_queue: Annotated[int, "calls that may wait for one model version, where its deployment doesn't say"] = 10_000
    max_waiting_bytes: Annotated[int, "bytes of requests that may wait for workers, over all models"] = 1 << 30
    max_unread_bytes: Annotated[int, "bytes of responses that a stream's reader may be behind"] = 8 << 20
    hold: Annotated[float, "seconds that a call is held while the workers of its model are away"] = 5.0
    settle: Annotated[float, "seconds that workers which a restarted scheduler doesn't know yet are trusted"] = 10.0
    connect_timeout: Annotated[float, "seconds until a worker must have said its load on a new stream"] = 5.0
    max_attempts: Annotated[int, "workers that one call is sent to at most"] = 3
    retry_share: Annotated[float, "calls sent again, as a share of all calls, above the floor"] = 0.1
    retry_floor: Annotated[float, "calls per second that may be sent again however few calls there are"] = 10.0
    retry_burst: Annotated[int, "calls that may be sent again at once, e.g. when a worker dies"] = 1_000
    bundle_bytes: Annotated[int, "requests are sent in bundles of about this many bytes at most"] = 4 << 20

    def __post_init__(self) -> None:
        for name in ("max_queue", "max_waiting_bytes", "max_unread_bytes", "max_attempts", "bundle_bytes"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name}: expected at least 1, got {getattr(self, name)}")


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
