from infermesh.v1 import deployment_pb2 as _deployment_pb2
from infermesh.v1 import model_pb2 as _model_pb2
from google.protobuf.internal import containers as _containers
from google.protobuf import descriptor as _descriptor
from google.protobuf import message as _message
from collections.abc import Iterable as _Iterable, Mapping as _Mapping
from typing import ClassVar as _ClassVar, Optional as _Optional, Union as _Union

DESCRIPTOR: _descriptor.FileDescriptor

class WatchDesiredRequest(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...

class DesiredState(_message.Message):
    __slots__ = ("revision", "deployments")
    REVISION_FIELD_NUMBER: _ClassVar[int]
    DEPLOYMENTS_FIELD_NUMBER: _ClassVar[int]
    revision: int
    deployments: _containers.RepeatedCompositeFieldContainer[DesiredDeployment]
    def __init__(self, revision: _Optional[int] = ..., deployments: _Optional[_Iterable[_Union[DesiredDeployment, _Mapping]]] = ...) -> None: ...

class DesiredDeployment(_message.Message):
    __slots__ = ("deployment", "targets", "versions", "aliases")
    class AliasesEntry(_message.Message):
        __slots__ = ("key", "value")
        KEY_FIELD_NUMBER: _ClassVar[int]
        VALUE_FIELD_NUMBER: _ClassVar[int]
        key: str
        value: str
        def __init__(self, key: _Optional[str] = ..., value: _Optional[str] = ...) -> None: ...
    DEPLOYMENT_FIELD_NUMBER: _ClassVar[int]
    TARGETS_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    ALIASES_FIELD_NUMBER: _ClassVar[int]
    deployment: _deployment_pb2.Deployment
    targets: _containers.RepeatedCompositeFieldContainer[ResolvedTarget]
    versions: _containers.RepeatedCompositeFieldContainer[_model_pb2.ModelVersion]
    aliases: _containers.ScalarMap[str, str]
    def __init__(self, deployment: _Optional[_Union[_deployment_pb2.Deployment, _Mapping]] = ..., targets: _Optional[_Iterable[_Union[ResolvedTarget, _Mapping]]] = ..., versions: _Optional[_Iterable[_Union[_model_pb2.ModelVersion, _Mapping]]] = ..., aliases: _Optional[_Mapping[str, str]] = ...) -> None: ...

class ResolvedTarget(_message.Message):
    __slots__ = ("version", "weight")
    VERSION_FIELD_NUMBER: _ClassVar[int]
    WEIGHT_FIELD_NUMBER: _ClassVar[int]
    version: str
    weight: int
    def __init__(self, version: _Optional[str] = ..., weight: _Optional[int] = ...) -> None: ...

class ReportDeploymentsRequest(_message.Message):
    __slots__ = ("reports",)
    REPORTS_FIELD_NUMBER: _ClassVar[int]
    reports: _containers.RepeatedCompositeFieldContainer[DeploymentReport]
    def __init__(self, reports: _Optional[_Iterable[_Union[DeploymentReport, _Mapping]]] = ...) -> None: ...

class DeploymentReport(_message.Message):
    __slots__ = ("name", "generation", "state", "reason", "versions")
    NAME_FIELD_NUMBER: _ClassVar[int]
    GENERATION_FIELD_NUMBER: _ClassVar[int]
    STATE_FIELD_NUMBER: _ClassVar[int]
    REASON_FIELD_NUMBER: _ClassVar[int]
    VERSIONS_FIELD_NUMBER: _ClassVar[int]
    name: str
    generation: int
    state: _deployment_pb2.Deployment.State
    reason: str
    versions: _containers.RepeatedCompositeFieldContainer[_deployment_pb2.VersionStatus]
    def __init__(self, name: _Optional[str] = ..., generation: _Optional[int] = ..., state: _Optional[_Union[_deployment_pb2.Deployment.State, str]] = ..., reason: _Optional[str] = ..., versions: _Optional[_Iterable[_Union[_deployment_pb2.VersionStatus, _Mapping]]] = ...) -> None: ...

class ReportDeploymentsResponse(_message.Message):
    __slots__ = ()
    def __init__(self) -> None: ...
