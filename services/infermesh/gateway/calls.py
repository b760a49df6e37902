"""The call: what a front end hands to the dispatcher. Front ends build it, nothing in it knows a protocol."""

from dataclasses import dataclass


@dataclass(slots=True)
class Call:
    """One inference call.

    `version` is as the client sent it: empty (the deployment's traffic shares decide), a number or an alias.
    `payload` is a serialised `inference.ModelInferRequest`, byte for byte as the client sent it. `deadline` is in
    seconds of the event loop's own clock (`loop.time()`); None means that there is none. A higher `priority` leaves
    the queue first. `traceparent` and `tracestate` are the W3C trace context of the caller, empty without one.
    """

    deployment: str
    version: str
    payload: bytes
    deadline: float | None = None
    priority: int = 0
    traceparent: str = ""
    tracestate: str = ""
