"""Models, their versions and aliases. Part of `AsyncClient`."""

import asyncio
import uuid
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path

from infermesh import names
from infermesh.client import methods
from infermesh.client.connection import Connection
from infermesh.client.package import draft_version, list_files
from infermesh.client.signature import Arrays
from infermesh.client.uploads import Progress, Upload, measure
from infermesh.v1 import model_pb2, model_service_pb2


class CatalogCalls:
    """Everything about models, versions and aliases."""

    _connection: Connection

    async def push(
        self,
        model: str,
        files: str | Path | Mapping[str, str | Path],
        *,
        backend: str = "",
        signature: model_pb2.Signature | None = None,
        samples: Sequence[tuple[Arrays, Arrays]] = (),
        max_batch_size: int | None = None,
        decoupled: bool = False,
        device: str = "",
        memory_bytes: int = 0,
        labels: Mapping[str, str] | None = None,
        options: Mapping[str, str] | None = None,
        progress: Progress | None = None,
    ) -> model_pb2.ModelVersion:
        """Stores files as the next version of a model, which is created if it is missing, and returns the version.

        `files` is one file, a folder, or a mapping of paths within the version to local files. Files whose content the
        registry already has are not sent again; a cut upload goes on where it stood. Memory stays flat.

        `backend` follows from the suffix (.pt2, .pt, .ts: torch; .onnx: onnx; .py: python). `signature` (see
        `infermesh.client.signature`) is read from .onnx and .pt2 files, or else from the samples. `samples` are pairs
        of inputs and expected outputs, {name: array}, batch first; every worker must reproduce them before the version
        is routed to. `max_batch_size` None means: as the file or the signature allows; 0: no batch dimension.
        A `decoupled` version gives any number of responses to a request (`infer_stream`); None means 0 there.
        `memory_bytes` is what a loaded copy takes; 0 leaves it to the scheduler. `progress` gets bytes sent and in all.

        Raises InvalidInput (a bad id, or a signature that can't be inferred), BadTensor (a sample that the signature
        doesn't fit), DataLoss (a file that changed while it was sent), NotReady when the registry stays away.
        """
        names.check_id("model", model)
        local = await asyncio.to_thread(list_files, files)
        limit = 0 if decoupled and max_batch_size is None else max_batch_size
        draft = await asyncio.to_thread(draft_version, local, backend, signature, samples, limit, dict(options or {}))
        draft.decoupled = decoupled
        draft.device, draft.memory_bytes = device, memory_bytes
        draft.labels.update(labels or {})
        draft.files.extend(await self._upload(local, progress))
        return await self._create_version(model, draft)

    async def _create_version(self, model: str, draft: model_pb2.ModelVersion) -> model_pb2.ModelVersion:
        request = model_service_pb2.CreateModelVersionRequest(
            parent=names.model_name(model), version=draft, request_id=str(uuid.uuid4()), create_model=True
        )
        return await self._connection.call(methods.CREATE_VERSION, request)

    async def _upload(self, local: Mapping[str, Path], progress: Progress | None) -> list[model_pb2.ModelFile]:
        """Brings every file to the registry and returns how they are described there."""
        files = [await asyncio.to_thread(measure, path, source) for path, source in local.items()]
        total, done = sum(file.size for file in files), 0
        for file in files:
            before = done

            def report(sent: int, before: int = before) -> None:
                if progress is not None:
                    progress(before + sent, total)

            await Upload(self._connection, file, report).run()
            done += file.size
        return [file.described() for file in files]

    def models(self, *, prefix: str = "") -> AsyncIterator[model_pb2.Model]:
        """Yields the models in the order of their ids, those whose id begins with `prefix`."""
        request = model_service_pb2.ListModelsRequest(id_prefix=prefix)
        return self._connection.pages(methods.LIST_MODELS, request)

    async def get_model(self, model: str) -> model_pb2.Model:
        """Returns a model. Raises NotFound."""
        request = model_service_pb2.GetModelRequest(name=names.model_name(model))
        return await self._connection.call(methods.GET_MODEL, request)

    async def delete_model(self, model: str) -> None:
        """Deletes a model with its versions and aliases. Raises NotFound; FailedPrecondition while it is deployed."""
        request = model_service_pb2.DeleteModelRequest(name=names.model_name(model))
        await self._connection.call(methods.DELETE_MODEL, request)

    def versions(self, model: str) -> AsyncIterator[model_pb2.ModelVersion]:
        """Yields the versions of a model, newest first, without their samples. Raises NotFound."""
        request = model_service_pb2.ListModelVersionsRequest(parent=names.model_name(model))
        return self._connection.pages(methods.LIST_VERSIONS, request)

    async def get_version(self, model: str, version: str | int = "latest") -> model_pb2.ModelVersion:
        """Returns a version by its number, by an alias or `latest`. Raises NotFound."""
        request = model_service_pb2.GetModelVersionRequest(name=names.version_name(model, version))
        return await self._connection.call(methods.GET_VERSION, request)

    async def delete_version(self, model: str, version: str | int) -> None:
        """Deletes a version. Raises NotFound; FailedPrecondition while an alias or a deployment uses it."""
        request = model_service_pb2.DeleteModelVersionRequest(name=names.version_name(model, version))
        await self._connection.call(methods.DELETE_VERSION, request)

    async def set_alias(
        self, model: str, alias: str, version: str | int, *, expected: str | int | None = None
    ) -> model_pb2.Alias:
        """Points an alias at a version (a number), creating it if it is missing.

        With `expected` it is moved only if it points at that version now, or, with `"none"`, if it doesn't exist.
        Raises Conflict if it is elsewhere, NotFound for an unknown version.
        """
        names.check_alias(alias)
        request = model_service_pb2.SetAliasRequest(
            name=names.alias_name(model, alias), version=names.version_name(model, version)
        )
        if expected is not None:
            request.expected_version = "none" if expected == "none" else names.version_name(model, expected)
        return await self._connection.call(methods.SET_ALIAS, request)

    async def get_alias(self, model: str, alias: str) -> model_pb2.Alias:
        """Returns an alias. Raises NotFound."""
        request = model_service_pb2.GetAliasRequest(name=names.alias_name(model, alias))
        return await self._connection.call(methods.GET_ALIAS, request)

    def aliases(self, model: str) -> AsyncIterator[model_pb2.Alias]:
        """Yields the aliases of a model in the order of their ids."""
        request = model_service_pb2.ListAliasesRequest(parent=names.model_name(model))
        return self._connection.pages(methods.LIST_ALIASES, request)

    async def delete_alias(self, model: str, alias: str) -> None:
        """Deletes an alias. Raises NotFound; FailedPrecondition while a deployment uses it."""
        request = model_service_pb2.DeleteAliasRequest(name=names.alias_name(model, alias))
        await self._connection.call(methods.DELETE_ALIAS, request)
