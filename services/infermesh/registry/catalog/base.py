"""The seam of the catalog: one small Protocol for each concern. Used by the servicers and by `uploads`.

Every method is one transaction: it happens as a whole or not at all, and once it has returned it survives the death of
the process. All block on the disk or the database: call them off the event loop. They may be called from several
threads at once, and calls are linearizable. Names and values have been checked for form before; what depends on
the state (does it exist, does it have this etag) is checked here, in the transaction. A database that does not answer
is NotReady.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from google.longrunning.operations_pb2 import Operation

from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.model_pb2 import Alias, Model, ModelVersion
from infermesh.v1.state_service_pb2 import DeploymentReport, DesiredState


@dataclass(frozen=True)
class Key:
    """Makes a create idempotent: the caller's request id and a digest of the whole request."""

    id: str
    digest: str


@dataclass(frozen=True)
class UploadRecord:
    """What is known about an upload besides its bytes; `expires` is in nanoseconds since 1970."""

    id: str
    digest: str
    size: int
    expires: int


class Models(Protocol):
    """Keeps models."""

    def create(self, model: str, wanted: Model, key: Key | None) -> Model:
        """Creates a model. Raises AlreadyExists if the id is taken, or the key came with another request."""

    def get(self, model: str) -> Model:
        """Returns a model. Raises NotFound."""

    def page(self, prefix: str, after: str, limit: int) -> list[Model]:
        """Returns up to `limit` models whose id begins with `prefix` and comes behind `after`, in the order of ids."""

    def update(self, model: str, change: Callable[[Model], Model], etag: str) -> Model:
        """Puts `change(current)` in its place. Raises NotFound, Conflict for a stale etag, or what `change` raises."""

    def delete(self, model: str, etag: str) -> None:
        """Deletes a model with all it has. Raises NotFound, Conflict, and FailedPrecondition while it is deployed."""


class Versions(Protocol):
    """Keeps the immutable versions of models."""

    def create(self, model: str, version: ModelVersion, key: Key | None, create_model: bool) -> ModelVersion:
        """Stores the next version. Raises NotFound without the model, AlreadyExists for a key used otherwise."""

    def get(self, model: str, version: str) -> ModelVersion:
        """Returns the version that a number, an alias or `latest` names, with its samples. Raises NotFound."""

    def page(self, model: str, before: int, limit: int) -> list[ModelVersion]:
        """Returns up to `limit` versions below `before`, newest first, without samples. Raises NotFound."""

    def delete(self, model: str, number: int) -> None:
        """Deletes a version. Raises NotFound, and FailedPrecondition while an alias or a deployment uses it."""


class Aliases(Protocol):
    """Keeps the names that move."""

    def set(self, model: str, alias: str, number: int, expected: str, etag: str) -> Alias:
        """Points an alias at a version if it is where `expected` says: a number, `none`, or empty for anywhere.

        Raises NotFound without the version, and Conflict if the alias is elsewhere or has another etag.
        """

    def get(self, model: str, alias: str) -> Alias:
        """Returns an alias. Raises NotFound."""

    def page(self, model: str, after: str, limit: int) -> list[Alias]:
        """Returns up to `limit` aliases behind `after`, in the order of ids. Raises NotFound without the model."""

    def delete(self, model: str, alias: str, etag: str) -> None:
        """Deletes an alias. Raises NotFound, Conflict, and FailedPrecondition while a deployment uses it."""


class Deployments(Protocol):
    """Keeps deployments. A change starts an operation and ends the one under way for the same deployment (ABORTED)."""

    def create(self, deployment: str, wanted: Deployment, key: Key | None) -> Operation:
        """Creates a deployment. Raises AlreadyExists, and NotFound without its model or a version that it targets."""

    def get(self, deployment: str) -> Deployment:
        """Returns a deployment. Raises NotFound."""

    def page(self, model: str, after: str, limit: int) -> list[Deployment]:
        """Returns up to `limit` deployments behind `after`, in the order of ids; of one model (an id), if asked."""

    def update(self, deployment: str, change: Callable[[Deployment], Deployment], etag: str) -> Operation:
        """Puts `change(current)` in its place. Raises NotFound, Conflict for a stale etag, or what `change` raises."""

    def delete(self, deployment: str, etag: str) -> None:
        """Deletes a deployment; its running operation ends ABORTED. Raises NotFound, Conflict."""


class Operations(Protocol):
    """Keeps the long-running operations of deployments. Ids are ordered by their beginning."""

    def get(self, operation: str) -> Operation:
        """Returns an operation. Raises NotFound."""

    def page(self, done: bool | None, deployment: str, after: str, limit: int) -> list[Operation]:
        """Returns up to `limit` operations behind `after`; done or not and of one deployment (an id) only, if asked."""

    def cancel(self, operation: str) -> None:
        """Ends an operation as cancelled; what is wanted stays. Does nothing if it is done. Raises NotFound."""

    def delete(self, operation: str) -> None:
        """Forgets an operation. Raises NotFound."""


class State(Protocol):
    """What the scheduler works from and reports to."""

    def revision(self) -> int:
        """Returns the revision of what is wanted; it grows with every change that `desired` would show."""

    def desired(self) -> DesiredState:
        """Returns all that is wanted, with its revision."""

    def report(self, reports: Sequence[DeploymentReport]) -> None:
        """Takes over what became of deployments and ends their operations. Ignores deployments that are gone."""


class Uploads(Protocol):
    """Keeps what is known about uploads, finished or not, until they expire."""

    def put(self, record: UploadRecord) -> None:
        """Stores an upload, in the place of an older state of it."""

    def get(self, upload: str) -> UploadRecord:
        """Returns an upload. Raises NotFound."""

    def find(self, digest: str) -> list[UploadRecord]:
        """Returns the uploads of a digest, the one that expires last first."""

    def expired(self, now: int) -> list[UploadRecord]:
        """Returns the uploads that expired before `now`."""

    def forget(self, upload: str) -> None:
        """Forgets an upload, if it is known."""


@dataclass(frozen=True)
class Catalog:
    """The concerns of one catalog, all on the same data."""

    models: Models
    versions: Versions
    aliases: Aliases
    deployments: Deployments
    operations: Operations
    state: State
    uploads: Uploads
