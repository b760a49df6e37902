"""`infermesh.v1.ModelService`: models, versions and aliases."""

from typing import TypeAlias

import grpc.aio
from google.protobuf.empty_pb2 import Empty

from infermesh import names
from infermesh.errors import FailedPrecondition, InvalidInput
from infermesh.registry.artifacts.base import ArtifactStore
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.requests import key_of, mask_of
from infermesh.registry.rules import models, pages
from infermesh.registry.rules.fields import bad
from infermesh.registry.rules.versions import check_version
from infermesh.registry.threads import Threads
from infermesh.v1 import model_service_pb2 as pb
from infermesh.v1.model_pb2 import Alias, Model, ModelVersion
from infermesh.v1.model_service_pb2_grpc import ModelServiceServicer

Context: TypeAlias = grpc.aio.ServicerContext

_NO_NUMBER = 2**63 - 1
_NONE = "none"


class ModelServicer(ModelServiceServicer):
    """See model_service.proto."""

    def __init__(self, catalog: Catalog, store: ArtifactStore, threads: Threads) -> None:
        self._catalog = catalog
        self._store = store
        self._run = threads.run

    async def CreateModel(self, request: pb.CreateModelRequest, context: Context) -> Model:
        """See model_service.proto."""
        names.check_id("model", request.model_id)
        models.check_model(request.model)
        return await self._run(self._catalog.models.create, request.model_id, request.model, key_of(request))

    async def GetModel(self, request: pb.GetModelRequest, context: Context) -> Model:
        """See model_service.proto."""
        (model,) = names.parse("models/*", request.name)
        return await self._run(self._catalog.models.get, model)

    async def ListModels(self, request: pb.ListModelsRequest, context: Context) -> pb.ListModelsResponse:
        """See model_service.proto."""
        if request.id_prefix:
            models.check_prefix(request.id_prefix)
        scope, size = ("models", request.id_prefix), pages.page_size(request.page_size)
        after = pages.decode(scope, request.page_token)
        found = await self._run(self._catalog.models.page, request.id_prefix, after, size + 1)
        shown, token = pages.cut(scope, found, size, lambda model: model.name.removeprefix("models/"))
        return pb.ListModelsResponse(models=shown, next_page_token=token)

    async def UpdateModel(self, request: pb.UpdateModelRequest, context: Context) -> Model:
        """See model_service.proto."""
        (model,) = names.parse("models/*", request.model.name)
        wanted, mask = request.model, mask_of(request)
        return await self._run(
            self._catalog.models.update, model, lambda current: models.updated(current, wanted, mask), wanted.etag
        )

    async def DeleteModel(self, request: pb.DeleteModelRequest, context: Context) -> Empty:
        """See model_service.proto."""
        (model,) = names.parse("models/*", request.name)
        await self._run(self._catalog.models.delete, model, request.etag)
        return Empty()

    async def CreateModelVersion(self, request: pb.CreateModelVersionRequest, context: Context) -> ModelVersion:
        """See model_service.proto."""
        (model,) = names.parse("models/*", request.parent)
        key = await self._run(key_of, request)  # up to 8 MiB of samples: not on the event loop
        await self._run(check_version, request.version)
        await self._run(_check_stored, self._store, request.version)
        return await self._run(self._catalog.versions.create, model, request.version, key, request.create_model)

    async def GetModelVersion(self, request: pb.GetModelVersionRequest, context: Context) -> ModelVersion:
        """See model_service.proto."""
        model, version = names.parse("models/*/versions/*", request.name)
        return await self._run(self._catalog.versions.get, model, version)

    async def ListModelVersions(
        self, request: pb.ListModelVersionsRequest, context: Context
    ) -> pb.ListModelVersionsResponse:
        """See model_service.proto."""
        (model,) = names.parse("models/*", request.parent)
        scope, size = ("versions", model), pages.page_size(request.page_size)
        cursor = pages.decode(scope, request.page_token)
        before = int(cursor) if names.is_version(cursor) else _NO_NUMBER
        found = await self._run(self._catalog.versions.page, model, before, size + 1)
        shown, token = pages.cut(scope, found, size, lambda version: version.name.rpartition("/")[2])
        return pb.ListModelVersionsResponse(versions=shown, next_page_token=token)

    async def DeleteModelVersion(self, request: pb.DeleteModelVersionRequest, context: Context) -> Empty:
        """See model_service.proto."""
        model, number = _version("name", request.name)
        await self._run(self._catalog.versions.delete, model, number)
        return Empty()

    async def SetAlias(self, request: pb.SetAliasRequest, context: Context) -> Alias:
        """See model_service.proto."""
        model, alias = names.parse("models/*/aliases/*", request.name)
        names.check_alias(alias)
        number = _of_model("version", request.version, model)
        expected = request.expected_version
        if expected and expected != _NONE:
            expected = str(_of_model("expected_version", expected, model))
        return await self._run(self._catalog.aliases.set, model, alias, number, expected, request.etag)

    async def GetAlias(self, request: pb.GetAliasRequest, context: Context) -> Alias:
        """See model_service.proto."""
        model, alias = names.parse("models/*/aliases/*", request.name)
        return await self._run(self._catalog.aliases.get, model, alias)

    async def ListAliases(self, request: pb.ListAliasesRequest, context: Context) -> pb.ListAliasesResponse:
        """See model_service.proto."""
        (model,) = names.parse("models/*", request.parent)
        scope, size = ("aliases", model), pages.page_size(request.page_size)
        after = pages.decode(scope, request.page_token)
        found = await self._run(self._catalog.aliases.page, model, after, size + 1)
        shown, token = pages.cut(scope, found, size, lambda alias: alias.name.rpartition("/")[2])
        return pb.ListAliasesResponse(aliases=shown, next_page_token=token)

    async def DeleteAlias(self, request: pb.DeleteAliasRequest, context: Context) -> Empty:
        """See model_service.proto."""
        model, alias = names.parse("models/*/aliases/*", request.name)
        await self._run(self._catalog.aliases.delete, model, alias, request.etag)
        return Empty()


def _version(field: str, name: str) -> tuple[str, int]:
    model, version = names.parse("models/*/versions/*", name)
    if not names.is_version(version):
        raise bad(field, "a version by its number", name)
    return model, int(version)


def _of_model(field: str, name: str, model: str) -> int:
    owner, number = _version(field, name)
    if owner != model:
        raise InvalidInput(f"{field}: an alias points at versions of its own model, expected {model}, got {owner}")
    return number


def _check_stored(store: ArtifactStore, version: ModelVersion) -> None:
    for file in version.files:
        size = store.size(file.digest)
        if size != file.size_bytes:
            got = "it is not there" if size is None else f"it has {size} bytes"
            raise FailedPrecondition(
                f"file '{file.path}': expected {file.digest} with {file.size_bytes} bytes in the artifact store, but "
                f"{got}: upload it first",
                metadata={"path": file.path, "digest": file.digest, "size_bytes": str(file.size_bytes)},
                reason="FILE_MISSING",
            )
