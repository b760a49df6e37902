from google.rpc import status_pb2 as _status_pb2
from infermesh.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class BufferSpec(_message.Message):
    __slots__ = ("name", "datatype", "shape", "size_bytes")
    NAME_FIELD_NUMBER: _ClassVar[int]
    DATATYPE_FIELD_NUMBER: _ClassVar[int]
    SHAPE_FIELD_NUMBER: _ClassVar[int]
    SIZE_BYTES_FIELD_NUMBER: _ClassVar[int]
    name: str
    datatype: str
    shape: _containers.RepeatedScalarFieldContainer[int]
    size_bytes: int
    def __init__(self, name: _Optional[str] = ..., datatype: _Optional[str] = ..., shape: _Optional[_Iterable[int]] = ..., size_bytes: _Optional[int] = ...) -> None: ...

class RunnerCommand(_message.Message):
    __slots__ = ("id", "load", "run", "begin", "cancel")
    ID_FIELD_NUMBER: _ClassVar[int]
    LOAD_FIELD_NUMBER: _ClassVar[int]
    RUN_FIELD_NUMBER: _ClassVar[int]
    BEGIN_FIELD_NUMBER: _ClassVar[int]
    CANCEL_FIELD_NUMBER: _ClassVar[int]
    id: int
    load: LoadCommand
    run: RunCommand
    begin: RunCommand
    cancel: int
    def __init__(self, id: _Optional[int] = ..., load: _Optional[_Union[LoadCommand, _Mapping]] = ..., run: _Optional[_Union[RunCommand, _Mapping]] = ..., begin: _Optional[_Union[RunCommand, _Mapping]] = ..., cancel: _Optional[int] = ...) -> None: ...

class LoadCommand(_message.Message):
    __slots__ = ("version", "folder", "device", "threads", "allow_python")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    FOLDER_FIELD_NUMBER: _ClassVar[int]
    DEVICE_FIELD_NUMBER: _ClassVar[int]
    THREADS_FIELD_NUMBER: _ClassVar[int]
    ALLOW_PYTHON_FIELD_NUMBER: _ClassVar[int]
    version: _model_pb2.ModelVersion
    folder: str
    device: str
    threads: int
    allow_python: bool
    def __init__(self, version: _Optional[_Union[_model_pb2.ModelVersion, _Mapping]] = ..., folder: _Optional[str] = ..., device: _Optional[str] = ..., threads: _Optional[int] = ..., allow_python: _Optional[bool] = ...) -> None: ...

class RunCommand(_message.Message):
    __slots__ = ("inputs", "outputs")
    INPUTS_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    inputs: _containers.RepeatedCompositeFieldContainer[BufferSpec]
    outputs: _containers.RepeatedScalarFieldContainer[str]
    def __init__(self, inputs: _Optional[_Iterable[_Union[BufferSpec, _Mapping]]] = ..., outputs: _Optional[_Iterable[str]] = ...) -> None: ...

class RunnerReply(_message.Message):
    __slots__ = ("id", "error", "outputs", "compute_us", "memory_bytes", "batch_times", "slots", "emissions")
    ID_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    MEMORY_BYTES_FIELD_NUMBER: _ClassVar[int]
    BATCH_TIMES_FIELD_NUMBER: _ClassVar[int]
    SLOTS_FIELD_NUMBER: _ClassVar[int]
    EMISSIONS_FIELD_NUMBER: _ClassVar[int]
    id: int
    error: _status_pb2.Status
    outputs: _containers.RepeatedCompositeFieldContainer[BufferSpec]
    compute_us: int
    memory_bytes: int
    batch_times: _containers.RepeatedCompositeFieldContainer[BatchTime]
    slots: int
    emissions: _containers.RepeatedCompositeFieldContainer[Emission]
    def __init__(self, id: _Optional[int] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ..., outputs: _Optional[_Iterable[_Union[BufferSpec, _Mapping]]] = ..., compute_us: _Optional[int] = ..., memory_bytes: _Optional[int] = ..., batch_times: _Optional[_Iterable[_Union[BatchTime, _Mapping]]] = ..., slots: _Optional[int] = ..., emissions: _Optional[_Iterable[_Union[Emission, _Mapping]]] = ...) -> None: ...

class Emission(_message.Message):
    __slots__ = ("sequences", "outputs", "finished", "error")
    SEQUENCES_FIELD_NUMBER: _ClassVar[int]
    OUTPUTS_FIELD_NUMBER: _ClassVar[int]
    FINISHED_FIELD_NUMBER: _ClassVar[int]
    ERROR_FIELD_NUMBER: _ClassVar[int]
    sequences: _containers.RepeatedScalarFieldContainer[int]
    outputs: _containers.RepeatedCompositeFieldContainer[BufferSpec]
    finished: _containers.RepeatedScalarFieldContainer[int]
    error: _status_pb2.Status
    def __init__(self, sequences: _Optional[_Iterable[int]] = ..., outputs: _Optional[_Iterable[_Union[BufferSpec, _Mapping]]] = ..., finished: _Optional[_Iterable[int]] = ..., error: _Optional[_Union[_status_pb2.Status, _Mapping]] = ...) -> None: ...

class BatchTime(_message.Message):
    __slots__ = ("rows", "compute_us")
    ROWS_FIELD_NUMBER: _ClassVar[int]
    COMPUTE_US_FIELD_NUMBER: _ClassVar[int]
    rows: int
    compute_us: int
    def __init__(self, rows: _Optional[int] = ..., compute_us: _Optional[int] = ...) -> None: ...
