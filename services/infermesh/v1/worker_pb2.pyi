from infermesh.v1 import deployment_pb2 as _deployment_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf.internal import enum_type_wrapper as _enum_type_wrapper
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class Device(_message.Message):
    __slots__ = ("kind", "index", "name", "memory_total_bytes", "memory_free_bytes")
    KIND_FIELD_NUMBER: _ClassVar[int]
    INDEX_FIELD_NUMBER: _ClassVar[int]
    NAME_FIELD_NUMBER: _ClassVar[int]
    MEMORY_TOTAL_BYTES_FIELD_NUMBER: _ClassVar[int]
    MEMORY_FREE_BYTES_FIELD_NUMBER: _ClassVar[int]
    kind: str
    index: int
    name: str
    memory_total_bytes: int
    memory_free_bytes: int
    def __init__(self, kind: _Optional[str] = ..., index: _Optional[int] = ..., name: _Optional[str] = ..., memory_total_bytes: _Optional[int] = ..., memory_free_bytes: _Optional[int] = ...) -> None: ...

class HeldVersion(_message.Message):
    __slots__ = ("deployment", "version", "digest", "state", "reason", "memory_bytes", "load_seconds", "quarantined")
    class State(int, metaclass=_enum_type_wrapper.EnumTypeWrapper):
        __slots__ = ()
        STATE_UNSPECIFIED: _ClassVar[HeldVersion.State]
        LOADING: _ClassVar[HeldVersion.State]
        READY: _ClassVar[HeldVersion.State]
        FAILED: _ClassVar[HeldVersion.State]
        UNLOADING: _ClassVar[HeldVersion.State]
    STATE_UNSPECIFIED: HeldVersion.State
    LOADING: HeldVersion.State
    READY: HeldVersion.State
    FAILED: HeldVersion.State
    UNLOADING: HeldVersion.State
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    LOAD_SECONDS_FIELD_NUMBER: _ClassVar[int]
    QUARANTINED_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    version: str
    digest: str
    state: HeldVersion.State
    reason: str
    memory_bytes: int
    load_seconds: float
    quarantined: int
    def __init__(self, deployment: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., state: _Optional[_Union[HeldVersion.State, str]] = ..., reason: _Optional[str] = ..., memory_bytes: _Optional[int] = ..., load_seconds: _Optional[float] = ..., quarantined: _Optional[int] = ...) -> None: ...

class Worker(_message.Message):
    __slots__ = ("name", "address", "incarnation", "device", "held", "draining", "weight", "backends", "labels", "bundle_address")
    class LabelsEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    NAME_FIELD_NUMBER: _ClassVar[int]
    ADDRESS_FIELD_NUMBER: _ClassVar[int]
    INCARNATION_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    HELD_FIELD_NUMBER: _ClassVar[int]
    DRAINING_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    BACKENDS_FIELD_NUMBER: _ClassVar[int]
    LABELS_FIELD_NUMBER: _ClassVar[int]
    BUNDLE_ADDRESS_FIELD_NUMBER: _ClassVar[int]
    name: str
    address: str
    incarnation: str
    device: Device
    held: _containers.RepeatedCompositeFieldContainer[HeldVersion]
    draining: bool
    weight: float
    backends: _containers.RepeatedScalarFieldContainer[str]
    labels: _containers.ScalarMap[str, str]
    bundle_address: str
    def __init__(self, name: _Optional[str] = ..., address: _Optional[str] = ..., incarnation: _Optional[str] = ..., device: _Optional[_Union[Device, _Mapping]] = ..., held: _Optional[_Iterable[_Union[HeldVersion, _Mapping]]] = ..., draining: _Optional[bool] = ..., weight: _Optional[float] = ..., backends: _Optional[_Iterable[str]] = ..., labels: _Optional[_Mapping[str, str]] = ..., bundle_address: _Optional[str] = ...) -> None: ...

class Assignment(_message.Message):
    __slots__ = ("deployment", "version", "digest", "batching")
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    VERSION_FIELD_NUMBER: _ClassVar[int]
    DIGEST_FIELD_NUMBER: _ClassVar[int]
    BATCHING_FIELD_NUMBER: _ClassVar[int]
    deployment: str
    version: str
    digest: str
    batching: _deployment_pb2.Batching
    def __init__(self, deployment: _Optional[str] = ..., version: _Optional[str] = ..., digest: _Optional[str] = ..., batching: _Optional[_Union[_deployment_pb2.Batching, _Mapping]] = ...) -> None: ...
