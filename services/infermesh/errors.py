"""The errors of the mesh. No status codes here: `mesh/status.py` maps each class to gRPC and HTTP.

MeshError
├── InvalidInput          the request can't be right, whatever the state of the mesh
│   ├── BadTensor         a tensor's name, datatype, shape or size is not what the model takes
│   └── OutOfRange        an offset or page beyond what there is
├── NotFound              a model, version, alias, deployment, file … that is not known
├── AlreadyExists         an id that is taken
├── Conflict              a stale etag or a lost compare-and-swap
├── FailedPrecondition    the state does not allow it
│   ├── LoadFailed        a version that can't be loaded, or failed its golden check
│   └── QueryOfDeath      a request that the model dies of
├── NotReady              known, but still loading, or no worker yet: try again
│   └── WorkerLost        the worker or runner died under the call
│       └── RunnerDied    the runner died while it executed the call, perhaps because of it
├── Overloaded            a queue or quota is full
├── TooLarge              a message or body above the limit: sending it again won't help
├── DeadlineExceeded      the deadline has passed, wherever it was noticed
├── Cancelled             the caller went away
├── Unauthenticated       no or a bad credential
├── PermissionDenied      a credential that does not allow it
├── Unsupported           not implemented here
├── DataLoss              stored bytes that no longer have their digest
├── ModelFailed           the model raised, or gave something other than its signature says
├── ConfigError           a setting that is unknown or bad; start-up only
└── Internal              a fault of ours; its text never leaves the process
"""

from collections.abc import Mapping, Sequence
from typing import ClassVar


class MeshError(Exception):
    """Root of the tree.

    `reason` is stable and part of the API (google.rpc.ErrorInfo, domain `infermesh`); the message says what was
    expected, what came and what to do; `metadata` repeats its dynamic values; `retry_after` is in seconds;
    `violations` are pairs of field and description (google.rpc.BadRequest).
    """

    reason: ClassVar[str] = "INTERNAL"

    def __init__(
        self,
        message: str,
        *,
        metadata: Mapping[str, str] | None = None,
        retry_after: float | None = None,
        violations: Sequence[tuple[str, str]] = (),
        reason: str | None = None,
    ) -> None:
        super().__init__(message)
        self.message = message
        self.metadata = dict(metadata or {})
        self.retry_after = retry_after
        self.violations = tuple(violations)
        if reason is not None:
            self.reason = reason  # type: ignore[misc]  # an instance may be more exact than its class


class InvalidInput(MeshError):
    """The request can't be right, whatever the state of the mesh."""

    reason = "INVALID_INPUT"


class BadTensor(InvalidInput):
    """A tensor is not what the model takes. Build it with `of`."""

    reason = "BAD_TENSOR"

    @classmethod
    def of(cls, tensor: str, expected: str, got: str) -> "BadTensor":
        """Returns the error for `tensor` (its name), saying what was expected and what came."""
        text = f"tensor '{tensor}': expected {expected}, got {got}"
        metadata = {"tensor": tensor, "expected": expected, "got": got}
        return cls(text, metadata=metadata, violations=[(f"inputs.{tensor}", f"expected {expected}, got {got}")])


class OutOfRange(InvalidInput):
    """An offset or page lies beyond what there is."""

    reason = "OUT_OF_RANGE"


class NotFound(MeshError):
    """Something named is not known. Build it with `of`."""

    reason = "NOT_FOUND"

    @classmethod
    def of(cls, kind: str, name: str, hint: str = "") -> "NotFound":
        """Returns the error for a `kind` (model, version, …) with `name`; `hint` says what to do."""
        text = f"{kind} '{name}' not found" + (f": {hint}" if hint else "")
        return cls(text, metadata={"kind": kind, "name": name}, reason=f"{kind.upper().replace(' ', '_')}_NOT_FOUND")


class AlreadyExists(MeshError):
    """An id is taken."""

    reason = "ALREADY_EXISTS"


class Conflict(MeshError):
    """A stale etag, or a lost compare-and-swap."""

    reason = "CONFLICT"


class FailedPrecondition(MeshError):
    """The state of the mesh does not allow it."""

    reason = "FAILED_PRECONDITION"


class LoadFailed(FailedPrecondition):
    """A version can't be loaded, or failed its golden check."""

    reason = "LOAD_FAILED"


class QueryOfDeath(FailedPrecondition):
    """The model's process dies of this request, so that this version is not asked it again. Build it with `of`."""

    reason = "QUERY_OF_DEATH"

    @classmethod
    def of(cls, model: str, version: str) -> "QueryOfDeath":
        """Returns the error of a request to a version."""
        text = (
            f"request: the process of version {version} of model '{model}' died each time it executed this, so it "
            "is not asked it again: change the request, or deploy a new version"
        )
        return cls(text, metadata={"model": model, "version": version})


class NotReady(MeshError):
    """Known, but still loading, or no worker has it yet."""

    reason = "NOT_READY"


class WorkerLost(NotReady):
    """The worker or runner died, or the way to it broke, while the call was there."""

    reason = "WORKER_LOST"


class RunnerDied(WorkerLost):
    """The runner ended while it executed the call, perhaps because of it. `metadata["ended"]` says how it ended."""

    reason = "RUNNER_DIED"


class Overloaded(MeshError):
    """A queue or quota is full."""

    reason = "OVERLOADED"


class TooLarge(MeshError):
    """A message or body is above the limit. Build it with `of`."""

    reason = "TOO_LARGE"

    @classmethod
    def of(cls, kind: str, size: int, limit: int) -> "TooLarge":
        """Returns the error for a `kind` (message, body, …) of `size` bytes, or of what came before reading stopped."""
        text = f"{kind}: expected at most {limit} bytes, got {size}"
        return cls(text, metadata={"limit": str(limit), "size": str(size)})


class DeadlineExceeded(MeshError):
    """The deadline has passed."""

    reason = "DEADLINE_EXCEEDED"


class Cancelled(MeshError):
    """The caller went away."""

    reason = "CANCELLED"


class Unauthenticated(MeshError):
    """No credential came, or a bad one."""

    reason = "UNAUTHENTICATED"


class PermissionDenied(MeshError):
    """The credential does not allow it."""

    reason = "PERMISSION_DENIED"


class Unsupported(MeshError):
    """Not implemented here."""

    reason = "UNSUPPORTED"


class DataLoss(MeshError):
    """Stored bytes no longer have their digest."""

    reason = "DATA_LOSS"


class ModelFailed(MeshError):
    """The model raised while it ran, or gave outputs that its signature does not describe; other requests go on.

    The message carries the kind of the exception and its first line, never a traceback.
    """

    reason = "MODEL_FAILED"


class ConfigError(MeshError):
    """A setting is unknown or bad; only at start-up."""

    reason = "CONFIG"


class Internal(MeshError):
    """A fault of ours."""

    reason = "INTERNAL"
