import datetime

from google.protobuf import duration_pb2 as _duration_pb2
from google.protobuf import timestamp_pb2 as _timestamp_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class TrafficTarget(_message.Message):
    __slots__ = ("version", "weight")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    version: str
    weight: int
    def __init__(self, version: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class Batching(_message.Message):
    __slots__ = ("max_batch_size", "max_delay", "max_queue")
    MAX_BATCH_SIZE_FIELD_NUMBER: _ClassVar[int]
    MAX_DELAY_FIELD_NUMBER: _ClassVar[int]
    MAX_QUEUE_FIELD_NUMBER: _ClassVar[int]
    max_batch_size: int
    max_delay: _duration_pb2.Duration
    max_queue: int
    def __init__(self, max_batch_size: _Optional[int] = ..., max_delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ..., max_queue: _Optional[int] = ...) -> None: ...

class Hedging(_message.Message):
    __slots__ = ("budget", "delay")
    BUDGET_FIELD_NUMBER: _ClassVar[int]
    DELAY_FIELD_NUMBER: _ClassVar[int]
    budget: float
    delay: _duration_pb2.Duration
    def __init__(self, budget: _Optional[float] = ..., delay: _Optional[_Union[datetime.timedelta, _duration_pb2.Duration, _Mapping]] = ...) -> None: ...

class Deployment(_message.Message):
    __slots__ = ("name", "model", "traffic", "replicas", "device", "batching", "policy", "labels", "state", "reason", "versions", "create_time", "update_time", "etag", "generation", "hedging", "single_flight", "pool", "all_workers")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[Deployment.State]
        DEPLOYING: _ClassVar[Deployment.State]
        ACTIVE: _ClassVar[Deployment.State]
        DEGRADED: _ClassVar[Deployment.State]
        FAILED: _ClassVar[Deployment.State]
    STATE_UNSPECIFIED: Deployment.State
    DEPLOYING: Deployment.State
    ACTIVE: Deployment.State
    DEGRADED: Deployment.State
    FAILED: Deployment.State
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    MODEL_FIELD_NUMBER: _ClassVar[int]
    TRAFFIC_FIELD_NUMBER: _ClassVar[int]
    REPLICAS_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    POLICY_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    CREATE_TIME_FIELD_NUMBER: _ClassVar[int]
    UPDATE_TIME_FIELD_NUMBER: _ClassVar[int]
    ETAG_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    HEDGING_FIELD_NUMBER: _ClassVar[int]
    SINGLE_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    POOL_FIELD_NUMBER: _ClassVar[int]
    ALL_WORKERS_FIELD_NUMBER: _ClassVar[int]
    name: str
    model: str
    traffic: _containers.RepeatedCompositeFieldContainer[TrafficTarget]
    replicas: int
    device: str
    batching: Batching
    policy: str
    labels: _containers.ScalarMap[str, str]
    state: Deployment.State
    reason: str
    versions: _containers.RepeatedCompositeFieldContainer[VersionStatus]
    create_time: _timestamp_pb2.Timestamp
    update_time: _timestamp_pb2.Timestamp
    etag: str
    generation: int
    hedging: Hedging
    single_flight: bool
    pool: str
    all_workers: bool
    def __init__(self, name: _Optional[str] = ..., model: _Optional[str] = ..., traffic: _Optional[_Iterable[_Union[TrafficTarget, _Mapping]]] = ..., replicas: _Optional[int] = ..., device: _Optional[str] = ..., batching: _Optional[_Union[Batching, _Mapping]] = ..., policy: _Optional[str] = ..., labels: _Optional[_Mapping[str, str]] = ..., state: _Optional[_Union[Deployment.State, str]] = ..., reason: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[VersionStatus, _Mapping]]] = ..., create_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., update_time: _Optional[_Union[datetime.datetime, _timestamp_pb2.Timestamp, _Mapping]] = ..., etag: _Optional[str] = ..., generation: _Optional[int] = ..., hedging: _Optional[_Union[Hedging, _Mapping]] = ..., single_flight: _Optional[bool] = ..., pool: _Optional[str] = ..., all_workers: _Optional[bool] = ...) -> None: ...

class VersionStatus(_message.Message):
    __slots__ = ("version", "ready_replicas", "loading_replicas", "failure", "routed")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    READY_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    LOADING_REPLICAS_FIELD_NUMBER: _ClassVar[int]
    FAILURE_FIELD_NUMBER: _ClassVar[int]
    ROUTED_FIELD_NUMBER: _ClassVar[int]
    version: str
    ready_replicas: int
    loading_replicas: int
    failure: str
    routed: bool
    def __init__(self, version: _Optional[str] = ..., ready_replicas: _Optional[int] = ..., loading_replicas: _Optional[int] = ..., failure: _Optional[str] = ..., routed: _Optional[bool] = ...) -> None: ...

class DeploymentOperationMetadata(_message.Message):
    __slots__ = ("deployment", "generation", "state", "versions", "reason")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    generation: int
    state: Deployment.State
    versions: _containers.RepeatedCompositeFieldContainer[VersionStatus]
    reason: str
    def __init__(self, deployment: _Optional[str] = ..., generation: _Optional[int] = ..., state: _Optional[_Union[Deployment.State, str]] = ..., versions: _Optional[_Iterable[_Union[VersionStatus, _Mapping]]] = ..., reason: _Optional[str] = ...) -> None: ...
