"""One call on its way through the worker, from arrival to result. Shared by the servicers and `models`."""

from collections.abc import Callable, Hashable
from dataclasses import dataclass
from typing import Any

from infermesh.errors import DeadlineExceeded
from infermesh.mesh.parcel import Pieces
from infermesh.mesh.wire import Bytes
from infermesh.worker.batcher import Order
from infermesh.worker.oip_codec import Request


@dataclass(slots=True, eq=False)
class Call:
    """A call and, once `finish` is called with it, its result: `response` or `error`.

    Times are seconds of the event loop's clock; no deadline is `inf`. `tag` is the servicer's own. `finish` is called
    exactly once, unless the call was cancelled: then never. `payload` is the serialised request, to tell what asks the
    same; a call that is `alone` shares no execution with others.
    """

    request: Request
    finish: Callable[["Call"], None]
    tag: Any
    streamed: bool
    # what the batch planner sees
    rows: int
    group: Hashable
    arrived: float
    deadline: float
    order: Order = (0, 0.0, 0)
    # takes each response of a decoupled version but the last; None: the call takes only one response
    emit: Callable[["Call", bytes], None] | None = None
    payload: Bytes = b""
    alone: bool = False
    # the result
    response: bytes | Pieces = b""
    error: BaseException | None = None
    not_started: bool = False
    queue_us: int = 0
    compute_us: int = 0
    done: bool = False


def too_late(call: Call, now: float) -> DeadlineExceeded:
    """Returns the error of a call that is not begun, because its deadline has passed or can't be met any more."""
    waited = f"after {(now - call.arrived) * 1e3:.1f} ms in the worker's queue"
    if call.deadline <= now:
        return DeadlineExceeded(f"deadline passed {waited}")
    left = f"{(call.deadline - now) * 1e3:.1f} ms"
    return DeadlineExceeded(f"{waited} only {left} are left: too little for one execution")
