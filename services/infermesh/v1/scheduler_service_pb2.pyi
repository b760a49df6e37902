import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from infermesh.v1 import deployment_pb2 as _deployment_pb2
from infermesh.v1 import model_pb2 as _model_pb2
from infermesh.v1 import worker_pb2 as _worker_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class HeartbeatRequest(_message.Message):
    __slots__ = ("worker", "leaving")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    LEAVING_FIELD_NUMBER: _ClassVar[int]
    worker: _worker_pb2.Worker
    leaving: bool
    def __init__(self, worker: _Optional[_Union[_worker_pb2.Worker, _Mapping]] = ..., leaving: _Optional[bool] = ...) -> None: ...

class HeartbeatResponse(_message.Message):
    __slots__ = ("assignments", "interval", "authoritative")
    ASSIGNMENTS_FIELD_NUMBER: _ClassVar[int]
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    AUTHORITATIVE_FIELD_NUMBER: _ClassVar[int]
    assignments: _containers.RepeatedCompositeFieldContainer[_worker_pb2.Assignment]
    interval: _duration_pb2.Duration
    authoritative: bool
    def __init__(self, assignments: _Optional[_Iterable[_Union[_worker_pb2.Assignment, _Mapping]]] = ..., interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., authoritative: _Optional[bool] = ...) -> None: ...

class WatchRoutesRequest(_message.Message):
    __slots__ = ("gateway",)
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    def __init__(self, gateway: _Optional[str] = ...) -> None: ...

class RouteSnapshot(_message.Message):
    __slots__ = ("revision", "epoch", "workers", "deployments")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    EPOCH_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    epoch: str
    workers: _containers.RepeatedCompositeFieldContainer[RouteWorker]
    deployments: _containers.RepeatedCompositeFieldContainer[DeploymentRoute]
    def __init__(self, revision: _Optional[int] = ..., epoch: _Optional[str] = ..., workers: _Optional[_Iterable[_Union[RouteWorker, _Mapping]]] = ..., deployments: _Optional[_Iterable[_Union[DeploymentRoute, _Mapping]]] = ...) -> None: ...

class RouteWorker(_message.Message):
    __slots__ = ("id", "address", "incarnation", "weight", "bundle_address")
    ID_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    id: str
    address: str
    incarnation: str
    weight: float
    bundle_address: str
    def __init__(self, id: _Optional[str] = ..., address: _Optional[str] = ..., incarnation: _Optional[str] = ..., weight: _Optional[float] = ..., bundle_address: _Optional[str] = ...) -> None: ...

class DeploymentRoute(_message.Message):
    __slots__ = ("deployment", "model", "traffic", "versions", "aliases", "policy", "batching", "state", "reason", "hedging", "single_flight", "awaited")
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    HEDGING_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    AWAITED_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    model: str
    traffic: _containers.RepeatedCompositeFieldContainer[ResolvedRoute]
    versions: _containers.RepeatedCompositeFieldContainer[VersionRoute]
    aliases: _containers.ScalarMap[str, str]
    policy: str
    batching: _deployment_pb2.Batching
    state: _deployment_pb2.Deployment.State
    reason: str
    hedging: _deployment_pb2.Hedging
    single_flight: bool
    awaited: bool
    def __init__(self, deployment: _Optional[str] = ..., model: _Optional[str] = ..., traffic: _Optional[_Iterable[_Union[ResolvedRoute, _Mapping]]] = ..., versions: _Optional[_Iterable[_Union[VersionRoute, _Mapping]]] = ..., aliases: _Optional[_Mapping[str, str]] = ..., policy: _Optional[str] = ..., batching: _Optional[_Union[_deployment_pb2.Batching, _Mapping]] = ..., state: _Optional[_Union[_deployment_pb2.Deployment.State, str]] = ..., reason: _Optional[str] = ..., hedging: _Optional[_Union[_deployment_pb2.Hedging, _Mapping]] = ..., single_flight: _Optional[bool] = ..., awaited: _Optional[bool] = ...) -> None: ...

class ResolvedRoute(_message.Message):
    __slots__ = ("version", "weight")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    version: str
    weight: int
    def __init__(self, version: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class VersionRoute(_message.Message):
    __slots__ = ("version", "digest", "state", "reason", "workers", "backend", "signature", "max_batch_size", "load_seconds", "decoupled")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    BACKEND_FIELD_NUMBER: _ClassVar[int]
    SIGNATURE_FIELD_NUMBER: _ClassVar[int]
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    LOAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    DECOUPLED_FIELD_NUMBER: _ClassVar[int]
    version: str
    digest: str
    state: _worker_pb2.HeldVersion.State
    reason: str
    workers: _containers.RepeatedScalarFieldContainer[str]
    backend: str
    signature: _model_pb2.Signature
    max_batch_size: int
    load_seconds: float
    decoupled: bool
    def __init__(self, version: _Optional[str] = ..., digest: _Optional[str] = ..., state: _Optional[_Union[_worker_pb2.HeldVersion.State, str]] = ..., reason: _Optional[str] = ..., workers: _Optional[_Iterable[str]] = ..., backend: _Optional[str] = ..., signature: _Optional[_Union[_model_pb2.Signature, _Mapping]] = ..., max_batch_size: _Optional[int] = ..., load_seconds: _Optional[float] = ..., decoupled: _Optional[bool] = ...) -> None: ...

class ReportDemandRequest(_message.Message):
    __slots__ = ("gateway", "deployments", "workers")
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    gateway: str
    deployments: _containers.RepeatedCompositeFieldContainer[DeploymentDemand]
    workers: _containers.RepeatedCompositeFieldContainer[WorkerDemand]
    def __init__(self, gateway: _Optional[str] = ..., deployments: _Optional[_Iterable[_Union[DeploymentDemand, _Mapping]]] = ..., workers: _Optional[_Iterable[_Union[WorkerDemand, _Mapping]]] = ...) -> None: ...

class DeploymentDemand(_message.Message):
    __slots__ = ("deployment", "waiting_rows", "waiting_calls", "predicted_wait", "unserved", "ended")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    WAITING_ROWS_FIELD_NUMBER: _ClassVar[int]
    WAITING_CALLS_FIELD_NUMBER: _ClassVar[int]
    PREDICTED_WAIT_FIELD_NUMBER: _ClassVar[int]
    UNSERVED_FIELD_NUMBER: _ClassVar[int]
    ENDED_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    waiting_rows: int
    waiting_calls: int
    predicted_wait: _duration_pb2.Duration
    unserved: bool
    ended: int
    def __init__(self, deployment: _Optional[str] = ..., waiting_rows: _Optional[int] = ..., waiting_calls: _Optional[int] = ..., predicted_wait: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., unserved: _Optional[bool] = ..., ended: _Optional[int] = ...) -> None: ...

class WorkerDemand(_message.Message):
    __slots__ = ("worker", "in_flight", "credit")
    WORKER_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    worker: str
    in_flight: int
    credit: int
    def __init__(self, worker: _Optional[str] = ..., in_flight: _Optional[int] = ..., credit: _Optional[int] = ...) -> None: ...

class ReportDemandResponse(_message.Message):
    __slots__ = ("interval",)
    INTERVAL_FIELD_NUMBER: _ClassVar[int]
    interval: _duration_pb2.Duration
    def __init__(self, interval: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class ListWorkersRequest(_message.Message):
    __slots__ = ("page_size", "page_token")
    PAGE_SIZE_FIELD_NUMBER: _ClassVar[int]
    PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    page_size: int
    page_token: str
    def __init__(self, page_size: _Optional[int] = ..., page_token: _Optional[str] = ...) -> None: ...

class ListWorkersResponse(_message.Message):
    __slots__ = ("workers", "next_page_token")
    WORKERS_FIELD_NUMBER: _ClassVar[int]
    NEXT_PAGE_TOKEN_FIELD_NUMBER: _ClassVar[int]
    workers: _containers.RepeatedCompositeFieldContainer[_worker_pb2.Worker]
    next_page_token: str
    def __init__(self, workers: _Optional[_Iterable[_Union[_worker_pb2.Worker, _Mapping]]] = ..., next_page_token: _Optional[str] = ...) -> None: ...
