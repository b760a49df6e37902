"""The question that a platform's probe asks."""

import asyncio

from infermesh.mesh import server
from infermesh.mesh.health import Health, add_to_server
from infermesh.testing.serving import is_serving


async def test_serving_is_what_health_says() -> None:
    health, grpc_server = Health(), server.create_server()
    add_to_server(health, grpc_server)
    address = await server.bind(grpc_server, "127.0.0.1:0")
    assert not await asyncio.to_thread(is_serving, address)
    health.set("", True)
    assert await asyncio.to_thread(is_serving, address)
    await grpc_server.stop(0)
    assert not await asyncio.to_thread(is_serving, address)
