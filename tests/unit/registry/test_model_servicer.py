"""ModelService and DeploymentService: what they refuse before the catalog is asked, pages, masks and idempotency."""

import uuid

import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from infermesh.errors import AlreadyExists, Conflict, FailedPrecondition, InvalidInput, NotFound
from infermesh.registry.artifacts.memory import MemoryStore
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.deployment_servicer import DeploymentServicer
from infermesh.registry.model_servicer import ModelServicer
from infermesh.registry.rules import pages
from infermesh.registry.threads import Threads
from infermesh.v1 import deployment_service_pb2 as dpb
from infermesh.v1 import model_service_pb2 as pb
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.model_pb2 import Model, ModelFile, ModelVersion
from tests.unit.registry.messages import CONTENT, deployment, digest, version

UUID = "6f0c9a0e-58a4-4d0e-9ad5-0f8a5e2f7c11"


@pytest.fixture
def context() -> object:
    """A call's context, of which these services ask nothing."""
    return object()


@pytest.fixture
def models(catalog: Catalog, store: MemoryStore, threads: Threads) -> ModelServicer:
    """A ModelService on an empty catalog, with the file of `version()` in the store."""
    return ModelServicer(catalog, store, threads)


@pytest.fixture
def deployments(catalog: Catalog, threads: Threads) -> DeploymentServicer:
    """A DeploymentService on the same catalog."""
    return DeploymentServicer(catalog, threads)


def push(**fields: object) -> pb.CreateModelVersionRequest:
    """Returns a request that stores a version of `digits`, making the model if it is missing."""
    request = pb.CreateModelVersionRequest(parent="models/digits", version=version(), create_model=True)
    request.MergeFrom(pb.CreateModelVersionRequest(**fields))  # type: ignore[arg-type]
    return request


async def test_a_file_must_be_stored_with_the_size_that_is_claimed(models: ModelServicer, context: object) -> None:
    missing = ModelFile(path="sub/vocab.txt", digest=digest(b"never uploaded"), size_bytes=14)
    with pytest.raises(FailedPrecondition, match=r"sub/vocab\.txt.*not there") as caught:
        await models.CreateModelVersion(push(version=ModelVersion(files=[missing])), context)
    assert caught.value.metadata["digest"] == missing.digest
    shorter = ModelFile(path="other", digest=digest(CONTENT), size_bytes=len(CONTENT) - 1)
    with pytest.raises(FailedPrecondition, match=f"other.*it has {len(CONTENT)} bytes"):
        await models.CreateModelVersion(push(version=ModelVersion(files=[shorter])), context)
    with pytest.raises(NotFound):  # and no model was made on the way
        await models.GetModel(pb.GetModelRequest(name="models/digits"), context)


async def test_a_version_needs_its_model_unless_told_to_make_it(models: ModelServicer, context: object) -> None:
    request = pb.CreateModelVersionRequest(parent="models/digits", version=version())
    with pytest.raises(NotFound):
        await models.CreateModelVersion(request, context)
    made = await models.CreateModelVersion(push(), context)
    assert made.name == "models/digits/versions/1"
    assert (await models.CreateModelVersion(request, context)).name == "models/digits/versions/2"
    for last in ("2", "latest"):
        name = f"models/digits/versions/{last}"
        assert (await models.GetModelVersion(pb.GetModelVersionRequest(name=name), context)).name.endswith("/2")


async def test_the_same_request_id_gives_the_same_answer(models: ModelServicer, context: object) -> None:
    first = await models.CreateModelVersion(push(request_id=UUID), context)
    assert await models.CreateModelVersion(push(request_id=UUID), context) == first
    assert await models.CreateModelVersion(push(request_id=UUID.upper()), context) == first
    other = push(request_id=UUID, version=ModelVersion(device="cpu"))
    with pytest.raises(AlreadyExists, match="request_id"):
        await models.CreateModelVersion(other, context)
    with pytest.raises(InvalidInput, match="request_id"):
        await models.CreateModelVersion(push(request_id="not-a-uuid"), context)


async def test_bad_names_are_refused_before_anything_else(models: ModelServicer, context: object) -> None:
    forged = pages.encode(("versions", "digits"), "\ud800")
    calls = [
        models.ListModels(pb.ListModelsRequest(id_prefix="a\0"), context),
        models.ListModelVersions(pb.ListModelVersionsRequest(parent="models/digits", page_token=forged), context),
        models.CreateModel(pb.CreateModelRequest(model_id="Digits"), context),
        models.CreateModel(pb.CreateModelRequest(model_id=""), context),
        models.CreateModel(pb.CreateModelRequest(model_id="a", model=Model(description="x" * 4097)), context),
        models.GetModel(pb.GetModelRequest(name="digits"), context),
        models.GetModelVersion(pb.GetModelVersionRequest(name="models/digits/versions/"), context),
        models.DeleteModelVersion(pb.DeleteModelVersionRequest(name="models/digits/versions/latest"), context),
        models.SetAlias(pb.SetAliasRequest(name="models/d/aliases/7", version="models/d/versions/1"), context),
        models.SetAlias(pb.SetAliasRequest(name="models/d/aliases/latest", version="models/d/versions/1"), context),
        models.SetAlias(pb.SetAliasRequest(name="models/d/aliases/prod", version="models/d/versions/prod"), context),
        models.SetAlias(pb.SetAliasRequest(name="models/d/aliases/prod", version="models/e/versions/1"), context),
        models.SetAlias(pb.SetAliasRequest(name="models/d/aliases/prod", version="1"), context),
        models.SetAlias(
            pb.SetAliasRequest(
                name="models/d/aliases/prod", version="models/d/versions/1", expected_version="models/e/versions/1"
            ),
            context,
        ),
        models.GetAlias(pb.GetAliasRequest(name="models/d/versions/1"), context),
        models.ListModelVersions(pb.ListModelVersionsRequest(parent="models"), context),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            await call


async def test_models_are_listed_page_by_page(models: ModelServicer, context: object) -> None:
    for name in ("aa", "ab", "ac", "b"):
        await models.CreateModel(pb.CreateModelRequest(model_id=name), context)
    first = await models.ListModels(pb.ListModelsRequest(page_size=2, id_prefix="a"), context)
    assert [m.name for m in first.models] == ["models/aa", "models/ab"]
    request = pb.ListModelsRequest(page_size=2, id_prefix="a", page_token=first.next_page_token)
    second = await models.ListModels(request, context)
    assert [m.name for m in second.models] == ["models/ac"]
    assert second.next_page_token == ""
    with pytest.raises(InvalidInput, match="page_token"):
        await models.ListModels(pb.ListModelsRequest(page_token=first.next_page_token), context)
    with pytest.raises(InvalidInput, match="page_size"):
        await models.ListModels(pb.ListModelsRequest(page_size=-1), context)


async def test_versions_and_aliases_are_listed_page_by_page(models: ModelServicer, context: object) -> None:
    for _ in range(3):
        await models.CreateModelVersion(push(), context)
    first = await models.ListModelVersions(pb.ListModelVersionsRequest(parent="models/digits", page_size=2), context)
    assert [v.name[-1] for v in first.versions] == ["3", "2"]
    request = pb.ListModelVersionsRequest(parent="models/digits", page_token=first.next_page_token)
    assert [v.name[-1] for v in (await models.ListModelVersions(request, context)).versions] == ["1"]
    for alias in ("prod", "canary"):
        name = f"models/digits/aliases/{alias}"
        await models.SetAlias(pb.SetAliasRequest(name=name, version="models/digits/versions/1"), context)
    page = await models.ListAliases(pb.ListAliasesRequest(parent="models/digits", page_size=1), context)
    request = pb.ListAliasesRequest(parent="models/digits", page_size=1, page_token=page.next_page_token)
    rest = await models.ListAliases(request, context)
    assert [a.name.rpartition("/")[2] for a in (*page.aliases, *rest.aliases)] == ["canary", "prod"]
    assert rest.next_page_token == ""


async def test_a_model_is_updated_and_deleted_under_its_etag(models: ModelServicer, context: object) -> None:
    made = await models.CreateModel(pb.CreateModelRequest(model_id="a", model=Model(labels={"a": "1"})), context)
    wanted = Model(name=made.name, description="new", etag=made.etag)
    request = pb.UpdateModelRequest(model=wanted, update_mask=FieldMask(paths=["description", "labels"]))
    updated = await models.UpdateModel(request, context)
    assert (updated.description, dict(updated.labels)) == ("new", {})
    with pytest.raises(Conflict):
        await models.DeleteModel(pb.DeleteModelRequest(name=made.name, etag=made.etag), context)
    await models.DeleteModel(pb.DeleteModelRequest(name=made.name, etag=updated.etag), context)
    with pytest.raises(NotFound):
        await models.GetModel(pb.GetModelRequest(name=made.name), context)


async def test_an_alias_goes_by_compare_and_swap(models: ModelServicer, context: object) -> None:
    for _ in range(2):
        await models.CreateModelVersion(push(), context)
    name, one, two = "models/digits/aliases/prod", "models/digits/versions/1", "models/digits/versions/2"
    await models.SetAlias(pb.SetAliasRequest(name=name, version=one, expected_version="none"), context)
    await models.SetAlias(pb.SetAliasRequest(name=name, version=two, expected_version=one), context)
    with pytest.raises(Conflict, match="expected it at 1, it is at 2"):
        await models.SetAlias(pb.SetAliasRequest(name=name, version=one, expected_version=one), context)
    alias = await models.GetAlias(pb.GetAliasRequest(name=name), context)
    assert alias.version == two
    with pytest.raises(FailedPrecondition):
        await models.DeleteModelVersion(pb.DeleteModelVersionRequest(name=two), context)
    await models.DeleteAlias(pb.DeleteAliasRequest(name=name, etag=alias.etag), context)
    await models.DeleteModelVersion(pb.DeleteModelVersionRequest(name=two), context)


async def test_deployments_from_beginning_to_end(
    models: ModelServicer, deployments: DeploymentServicer, context: object
) -> None:
    await models.CreateModelVersion(push(), context)
    request = dpb.CreateDeploymentRequest(deployment_id="d", deployment=deployment(), request_id=str(uuid.uuid4()))
    operation = await deployments.CreateDeployment(request, context)
    assert (await deployments.CreateDeployment(request, context)).name == operation.name
    made = await deployments.GetDeployment(dpb.GetDeploymentRequest(name="deployments/d"), context)
    wanted = Deployment(name=made.name, replicas=2, etag=made.etag)
    await deployments.UpdateDeployment(dpb.UpdateDeploymentRequest(deployment=wanted), context)
    with pytest.raises(Conflict):
        await deployments.UpdateDeployment(dpb.UpdateDeploymentRequest(deployment=wanted), context)
    page = await deployments.ListDeployments(dpb.ListDeploymentsRequest(model="models/digits"), context)
    assert [d.replicas for d in page.deployments] == [2]
    assert not (await deployments.ListDeployments(dpb.ListDeploymentsRequest(model="models/no"), context)).deployments
    with pytest.raises(Conflict):
        await deployments.DeleteDeployment(dpb.DeleteDeploymentRequest(name=made.name, etag=made.etag), context)
    await deployments.DeleteDeployment(dpb.DeleteDeploymentRequest(name=made.name), context)


async def test_bad_deployments_are_refused(deployments: DeploymentServicer, context: object) -> None:
    calls = [
        deployments.CreateDeployment(dpb.CreateDeploymentRequest(deployment=deployment()), context),
        deployments.CreateDeployment(dpb.CreateDeploymentRequest(deployment_id="d"), context),
        deployments.GetDeployment(dpb.GetDeploymentRequest(name="d"), context),
        deployments.UpdateDeployment(dpb.UpdateDeploymentRequest(), context),
        deployments.ListDeployments(dpb.ListDeploymentsRequest(model="digits"), context),
    ]
    for call in calls:
        with pytest.raises(InvalidInput):
            await call
