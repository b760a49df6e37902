from google.rpc import status_pb2 as _status_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WorkBundle(_message.Message):
    __slots__ = ("items", "gateway", "probe")
    ITEMS_FIELD_NUMBER: _ClassVar[int]
    GATEWAY_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    items: _containers.RepeatedCompositeFieldContainer[WorkItem]
    gateway: str
    probe: int
    def __init__(self, items: _Optional[_Iterable[_Union[WorkItem, _Mapping]]] = ..., gateway: _Optional[str] = ..., probe: _Optional[int] = ...) -> None: ...

class WorkItem(_message.Message):
    __slots__ = ("id", "kind", "target", "payload", "timeout_us", "priority", "traceparent", "tracestate", "alone")
    class Kind(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        KIND_UNSPECIFIED: _ClassVar[WorkItem.Kind]
        INFER: _ClassVar[WorkItem.Kind]
        STREAM: _ClassVar[WorkItem.Kind]
        CANCEL: _ClassVar[WorkItem.Kind]
    KIND_UNSPECIFIED: WorkItem.Kind
    INFER: WorkItem.Kind
    STREAM: WorkItem.Kind
    CANCEL: WorkItem.Kind
    ID_FIELD_NUMBER: _ClassVar[int]
    KIND_FIELD_NUMBER: _ClassVar[int]
    TARGET_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    TIMEOUT_US_FIELD_NUMBER: _ClassVar[int]
    PRIORITY_FIELD_NUMBER: _ClassVar[int]
    TRACEPARENT_FIELD_NUMBER: _ClassVar[int]
    TRACESTATE_FIELD_NUMBER: _ClassVar[int]
    ALONE_FIELD_NUMBER: _ClassVar[int]
    id: int
    kind: WorkItem.Kind
    target: str
    payload: bytes
    timeout_us: int
    priority: int
    traceparent: str
    tracestate: str
    alone: bool
    def __init__(self, id: _Optional[int] = ..., kind: _Optional[_Union[WorkItem.Kind, str]] = ..., target: _Optional[str] = ..., payload: _Optional[bytes] = ..., timeout_us: _Optional[int] = ..., priority: _Optional[int] = ..., traceparent: _Optional[str] = ..., tracestate: _Optional[str] = ..., alone: _Optional[bool] = ...) -> None: ...

class ResultBundle(_message.Message):
    __slots__ = ("results", "loads", "draining", "probe", "suspicions")
    RESULTS_FIELD_NUMBER: _ClassVar[int]
    LOADS_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    PROBE_FIELD_NUMBER: _ClassVar[int]
    SUSPICIONS_FIELD_NUMBER: _ClassVar[int]
    results: _containers.RepeatedCompositeFieldContainer[ResultItem]
    loads: _containers.RepeatedCompositeFieldContainer[TargetLoad]
    draining: bool
    probe: int
    suspicions: _containers.RepeatedCompositeFieldContainer[Suspicion]
    def __init__(self, results: _Optional[_Iterable[_Union[ResultItem, _Mapping]]] = ..., loads: _Optional[_Iterable[_Union[TargetLoad, _Mapping]]] = ..., draining: _Optional[bool] = ..., probe: _Optional[int] = ..., suspicions: _Optional[_Iterable[_Union[Suspicion, _Mapping]]] = ...) -> None: ...

class Suspicion(_message.Message):
    __slots__ = ("target", "suspects", "quarantined", "crashed")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    SUSPECTS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    CRASHED_FIELD_NUMBER: _ClassVar[int]
    target: str
    suspects: _containers.RepeatedScalarFieldContainer[bytes]
    quarantined: _containers.RepeatedScalarFieldContainer[bytes]
    crashed: bool
    def __init__(self, target: _Optional[str] = ..., suspects: _Optional[_Iterable[bytes]] = ..., quarantined: _Optional[_Iterable[bytes]] = ..., crashed: _Optional[bool] = ...) -> None: ...

class ResultItem(_message.Message):
    __slots__ = ("id", "payload", "error", "final", "not_started", "queue_us", "compute_us")
    ID_FIELD_NUMBER: _ClassVar[int]
    PAYLOAD_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    FINAL_FIELD_NUMBER: _ClassVar[int]
    NOT_STARTED_FIELD_NUMBER: _ClassVar[int]
    QUEUE_US_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    id: int
    payload: bytes
    error: _status_pb2.Status
    final: bool
    not_started: bool
    queue_us: int
    compute_us: int
    def __init__(self, id: _Optional[int] = ..., payload: _Optional[bytes] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., final: _Optional[bool] = ..., not_started: _Optional[bool] = ..., queue_us: _Optional[int] = ..., compute_us: _Optional[int] = ...) -> None: ...

class TargetLoad(_message.Message):
    __slots__ = ("target", "credit", "queued_rows", "in_flight", "service_time_us", "gone", "kv_use", "free_us", "batch_us", "single_us")
    TARGET_FIELD_NUMBER: _ClassVar[int]
    CREDIT_FIELD_NUMBER: _ClassVar[int]
    QUEUED_ROWS_FIELD_NUMBER: _ClassVar[int]
    IN_FLIGHT_FIELD_NUMBER: _ClassVar[int]
    SERVICE_TIME_US_FIELD_NUMBER: _ClassVar[int]
    GONE_FIELD_NUMBER: _ClassVar[int]
    KV_USE_FIELD_NUMBER: _ClassVar[int]
    FREE_US_FIELD_NUMBER: _ClassVar[int]
    BATCH_US_FIELD_NUMBER: _ClassVar[int]
    SINGLE_US_FIELD_NUMBER: _ClassVar[int]
    target: str
    credit: int
    queued_rows: int
    in_flight: int
    service_time_us: int
    gone: bool
    kv_use: float
    free_us: int
    batch_us: int
    single_us: int
    def __init__(self, target: _Optional[str] = ..., credit: _Optional[int] = ..., queued_rows: _Optional[int] = ..., in_flight: _Optional[int] = ..., service_time_us: _Optional[int] = ..., gone: _Optional[bool] = ..., kv_use: _Optional[float] = ..., free_us: _Optional[int] = ..., batch_us: _Optional[int] = ..., single_us: _Optional[int] = ...) -> None: ...
