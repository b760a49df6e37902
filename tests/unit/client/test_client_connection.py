"""Addresses, the table of methods, repeats of safe calls."""

import pytest
from google.protobuf import descriptor_pb2, descriptor_pool

from infermesh import errors
from infermesh.client import AsyncClient, Retry, methods
from infermesh.client.connection import Listing, Method, target_of
from tests.unit.client.fake_mesh import FakeMesh

ALL = [
    item.method if isinstance(item, Listing) else item
    for item in vars(methods).values()
    if isinstance(item, Method | Listing)
]
OURS = [method for method in ALL if method.path.startswith("/infermesh.")]


@pytest.mark.parametrize(
    ("address", "target"),
    [
        ("127.0.0.1:8080", "127.0.0.1:8080"),
        ("ipv4:127.0.0.1:8080,127.0.0.1:8081", "ipv4:127.0.0.1:8080,127.0.0.1:8081"),
        ("http://mesh.local:80/", "mesh.local:80"),
        ("grpc://[::1]:9", "[::1]:9"),
        ("https://mesh.example:8443/", "mesh.example:8443"),
        ("https://mesh.example", "mesh.example:443"),
        ("grpcs://[::1]", "[::1]:443"),
        ("dns:///gateway.infermesh:8080", "dns:///gateway.infermesh:8080"),
    ],
)
def test_addresses_that_are_understood(address: str, target: str) -> None:
    assert target_of(address) == target


@pytest.mark.parametrize(
    "address", ["", "host", ":80", "host:", "host:http", "https://host:http", "https://", "ftp://host:1"]
)
def test_addresses_that_are_not(address: str) -> None:
    with pytest.raises(errors.InvalidInput, match="address"):
        target_of(address)


@pytest.mark.parametrize("method", OURS, ids=lambda m: m.path)
def test_methods_agree_with_the_protos(method: Method) -> None:  # type: ignore[type-arg]
    service, _, name = method.path[1:].partition("/")
    described = descriptor_pool.Default().FindServiceByName(service).methods_by_name[name]
    assert described.input_type is method.request.DESCRIPTOR
    assert described.output_type is method.response.DESCRIPTOR
    level = described.GetOptions().idempotency_level
    assert method.safe == (level != descriptor_pb2.MethodOptions.IDEMPOTENCY_UNKNOWN)


def test_every_kind_of_service_is_in_the_table() -> None:
    services = {method.path.rpartition("/")[0] for method in ALL}
    assert "/inference.GRPCInferenceService" in services
    assert "/google.longrunning.Operations" in services
    assert len(services) == 6


async def test_a_safe_call_is_repeated_while_the_mesh_is_away(client: AsyncClient, mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.models.failures = [errors.NotReady("registry away"), errors.NotReady("registry away")]
    assert (await client.get_model("digits")).latest_version == 1
    assert mesh.models.calls == 3


async def test_attempts_are_counted(mesh: FakeMesh) -> None:
    mesh.add_version()
    mesh.models.failures = [errors.NotReady("registry away")] * 5
    async with AsyncClient(mesh.address, retry=Retry(attempts=2, first=0.001)) as client:
        with pytest.raises(errors.NotReady, match="registry away"):
            await client.get_model("digits")
    assert mesh.models.calls == 2


async def test_other_errors_are_not_repeated(client: AsyncClient, mesh: FakeMesh) -> None:
    with pytest.raises(errors.NotFound) as caught:
        await client.get_model("digits")
    assert caught.value.reason == "MODEL_NOT_FOUND"
    assert mesh.models.calls == 1
