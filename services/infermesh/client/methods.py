"""The rpcs that the client speaks, each with its path and messages."""

from typing import Final

from google.longrunning import operations_pb2
from google.protobuf import empty_pb2

from infermesh.client.connection import Listing, Method
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.v1 import (
    artifact_service_pb2,
    deployment_pb2,
    deployment_service_pb2,
    model_pb2,
    model_service_pb2,
    scheduler_service_pb2,
)

_MODELS: Final = "/infermesh.v1.ModelService/"
_ARTIFACTS: Final = "/infermesh.v1.ArtifactService/"
_DEPLOYMENTS: Final = "/infermesh.v1.DeploymentService/"
_OPERATIONS: Final = "/google.longrunning.Operations/"
# the messages live in a package of ours, so that tritonclient can be imported next to us; the path is the protocol's
_OIP: Final = "/inference.GRPCInferenceService/"

GET_MODEL: Final = Method(_MODELS + "GetModel", model_service_pb2.GetModelRequest, model_pb2.Model)
LIST_MODELS: Final = Listing(
    Method(_MODELS + "ListModels", model_service_pb2.ListModelsRequest, model_service_pb2.ListModelsResponse),
    lambda page: page.models,
)
DELETE_MODEL: Final = Method(_MODELS + "DeleteModel", model_service_pb2.DeleteModelRequest, empty_pb2.Empty)
CREATE_VERSION: Final = Method(
    _MODELS + "CreateModelVersion", model_service_pb2.CreateModelVersionRequest, model_pb2.ModelVersion
)
GET_VERSION: Final = Method(
    _MODELS + "GetModelVersion", model_service_pb2.GetModelVersionRequest, model_pb2.ModelVersion
)
LIST_VERSIONS: Final = Listing(
    Method(
        _MODELS + "ListModelVersions",
        model_service_pb2.ListModelVersionsRequest,
        model_service_pb2.ListModelVersionsResponse,
    ),
    lambda page: page.versions,
)
DELETE_VERSION: Final = Method(
    _MODELS + "DeleteModelVersion", model_service_pb2.DeleteModelVersionRequest, empty_pb2.Empty
)
SET_ALIAS: Final = Method(_MODELS + "SetAlias", model_service_pb2.SetAliasRequest, model_pb2.Alias)
GET_ALIAS: Final = Method(_MODELS + "GetAlias", model_service_pb2.GetAliasRequest, model_pb2.Alias)
LIST_ALIASES: Final = Listing(
    Method(_MODELS + "ListAliases", model_service_pb2.ListAliasesRequest, model_service_pb2.ListAliasesResponse),
    lambda page: page.aliases,
)
DELETE_ALIAS: Final = Method(_MODELS + "DeleteAlias", model_service_pb2.DeleteAliasRequest, empty_pb2.Empty)

START_UPLOAD: Final = Method(
    _ARTIFACTS + "StartUpload", artifact_service_pb2.StartUploadRequest, artifact_service_pb2.Upload
)
UPLOAD: Final = Method(
    _ARTIFACTS + "UploadArtifact", artifact_service_pb2.UploadArtifactRequest, artifact_service_pb2.Upload
)
GET_UPLOAD: Final = Method(_ARTIFACTS + "GetUpload", artifact_service_pb2.GetUploadRequest, artifact_service_pb2.Upload)

CREATE_DEPLOYMENT: Final = Method(
    _DEPLOYMENTS + "CreateDeployment", deployment_service_pb2.CreateDeploymentRequest, operations_pb2.Operation
)
GET_DEPLOYMENT: Final = Method(
    _DEPLOYMENTS + "GetDeployment", deployment_service_pb2.GetDeploymentRequest, deployment_pb2.Deployment
)
LIST_DEPLOYMENTS: Final = Listing(
    Method(
        _DEPLOYMENTS + "ListDeployments",
        deployment_service_pb2.ListDeploymentsRequest,
        deployment_service_pb2.ListDeploymentsResponse,
    ),
    lambda page: page.deployments,
)
UPDATE_DEPLOYMENT: Final = Method(
    _DEPLOYMENTS + "UpdateDeployment", deployment_service_pb2.UpdateDeploymentRequest, operations_pb2.Operation
)
DELETE_DEPLOYMENT: Final = Method(
    _DEPLOYMENTS + "DeleteDeployment", deployment_service_pb2.DeleteDeploymentRequest, empty_pb2.Empty
)
WAIT_OPERATION: Final = Method(
    _OPERATIONS + "WaitOperation", operations_pb2.WaitOperationRequest, operations_pb2.Operation
)

LIST_WORKERS: Final = Listing(
    Method(
        "/infermesh.v1.SchedulerService/ListWorkers",
        scheduler_service_pb2.ListWorkersRequest,
        scheduler_service_pb2.ListWorkersResponse,
    ),
    lambda page: page.workers,
)

INFER: Final = Method(_OIP + "ModelInfer", oip.ModelInferRequest, oip.ModelInferResponse, safe=False)
STREAM_INFER: Final = Method(_OIP + "ModelStreamInfer", oip.ModelInferRequest, oip.ModelStreamInferResponse, safe=False)
SERVER_LIVE: Final = Method(_OIP + "ServerLive", oip.ServerLiveRequest, oip.ServerLiveResponse)
SERVER_READY: Final = Method(_OIP + "ServerReady", oip.ServerReadyRequest, oip.ServerReadyResponse)
SERVER_METADATA: Final = Method(_OIP + "ServerMetadata", oip.ServerMetadataRequest, oip.ServerMetadataResponse)
MODEL_READY: Final = Method(_OIP + "ModelReady", oip.ModelReadyRequest, oip.ModelReadyResponse)
MODEL_METADATA: Final = Method(_OIP + "ModelMetadata", oip.ModelMetadataRequest, oip.ModelMetadataResponse)
MODEL_STATISTICS: Final = Method(_OIP + "ModelStatistics", oip.ModelStatisticsRequest, oip.ModelStatisticsResponse)
