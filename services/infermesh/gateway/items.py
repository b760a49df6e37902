"""A call as an item of a bundle, and what comes back for it. Used by the ledger."""

from google.protobuf.message import DecodeError

from infermesh.errors import Internal, MeshError
from infermesh.gateway.pending import Pending
from infermesh.mesh import parcel
from infermesh.mesh.status import from_status
from infermesh.v1.worker_service_pb2 import ResultItem, WorkBundle, WorkItem


def error_of(item: ResultItem) -> MeshError:
    """Returns the error in a result; Internal if what the worker sent can't be read."""
    try:
        return from_status(item.error)
    except DecodeError:
        return Internal(f"a worker sent an error that can't be read (code {item.error.code})")


def add(bundle: WorkBundle, large: dict[int, parcel.Pieces], pending: Pending, now: float) -> int:
    """Adds a call that leaves now, and returns the bytes of its payload, which is put into `large` if it is so."""
    payload = pending.call.payload
    _fill(parcel.add(bundle.items, large, payload), pending, now)
    return len(payload)


def _fill(item: WorkItem, pending: Pending, now: float) -> None:
    """Writes a call into a new item, but for its payload. What is absent is not written: to set a field has a price."""
    call = pending.call
    pending.sent = True
    pending.attempts += 1
    item.id = pending.id
    item.kind = pending.kind
    item.target = pending.lane.target if pending.lane is not None else ""
    if pending.alone:
        item.alone = True
    if call.deadline is not None:
        item.timeout_us = max(1, int((call.deadline - now) * 1e6))
    if call.priority:
        item.priority = call.priority
    if pending.trace is not None:
        item.traceparent, item.tracestate = pending.trace
    elif call.traceparent:
        item.traceparent = call.traceparent
        item.tracestate = call.tracestate
