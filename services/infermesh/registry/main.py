"""Where the registry is put together."""

import asyncio
import contextlib
import os
import time
from collections.abc import Sequence
from typing import Final

import grpc.aio
from google.longrunning.operations_pb2_grpc import add_OperationsServicer_to_server

from infermesh.mesh import metrics
from infermesh.mesh.clock import SystemClock
from infermesh.mesh.config import load
from infermesh.mesh.process import Process, run
from infermesh.mesh.server import bind, drain
from infermesh.registry.artifact_servicer import ArtifactServicer
from infermesh.registry.artifacts import open_store
from infermesh.registry.catalog import migrate
from infermesh.registry.catalog.database import Database
from infermesh.registry.catalog.sql import sql_catalog
from infermesh.registry.changes import Changes
from infermesh.registry.config import RegistryConfig
from infermesh.registry.deployment_servicer import DeploymentServicer
from infermesh.registry.home import Home
from infermesh.registry.model_servicer import ModelServicer
from infermesh.registry.operations_servicer import LongRunningServicer
from infermesh.registry.state_servicer import StateServicer
from infermesh.registry.threads import Threads
from infermesh.registry.uploads import Uploads
from infermesh.v1.artifact_service_pb2_grpc import add_ArtifactServiceServicer_to_server
from infermesh.v1.deployment_service_pb2_grpc import add_DeploymentServiceServicer_to_server
from infermesh.v1.model_service_pb2_grpc import add_ModelServiceServicer_to_server
from infermesh.v1.state_service_pb2_grpc import add_StateServiceServicer_to_server

# What a client has sent and we have not yet read waits in memory: without a bound gRPC would let it grow with the
# speed of the wire, and an upload is sent faster than a disk takes it.
_NARROW: Final = (("grpc.http2.bdp_probe", 0), ("grpc.http2.lookahead_bytes", 1 << 20))


async def main(argv: Sequence[str]) -> None:
    """Serves until told to stop. Raises ConfigError for a bad setting, or a home that another registry has."""
    config = load(RegistryConfig, argv, os.environ, room="registry")
    async with Process("registry", config.process) as process:
        with contextlib.ExitStack() as stack:
            stack.enter_context(Home(config.home))
            changes = Changes()
            database = Database(config.database, now=time.time_ns, committed=changes.announce, migrate=migrate.in_child)
            stack.callback(database.close)
            threads = Threads(config.threads, "registry")
            stack.callback(threads.close)  # before the database: its calls use it
            server = process.create_server(_NARROW)
            uploads = add_services(server, config, process, database, changes, threads)
            await serve(server, config, process, changes, uploads)


def add_services(
    server: grpc.aio.Server,
    config: RegistryConfig,
    process: Process,
    database: Database,
    changes: Changes,
    threads: Threads,
) -> Uploads:
    """Adds every service of the registry to the server, and returns the uploads, which want sweeping."""
    catalog, store = sql_catalog(database), open_store(config.artifact_store)
    poll_interval = config.poll_interval if database.shared else None
    moved = metrics.artifact_bytes(process.metrics)
    uploads = Uploads(
        store,
        catalog.uploads,
        threads,
        now=time.time_ns,
        ttl=config.uploads.ttl,
        received=moved,
        ended=metrics.uploads_total(process.metrics),
    )
    watchers = metrics.desired_watchers(process.metrics)
    state = StateServicer(catalog, threads, changes, watchers, poll_interval)
    operations = LongRunningServicer(catalog, threads, changes, poll_interval=poll_interval)
    add_ModelServiceServicer_to_server(ModelServicer(catalog, store, threads), server)  # type: ignore[no-untyped-call]
    add_ArtifactServiceServicer_to_server(ArtifactServicer(store, uploads, threads, moved), server)  # type: ignore[no-untyped-call]
    add_DeploymentServiceServicer_to_server(DeploymentServicer(catalog, threads), server)  # type: ignore[no-untyped-call]
    add_StateServiceServicer_to_server(state, server)  # type: ignore[no-untyped-call]
    add_OperationsServicer_to_server(operations, server)
    return uploads


async def serve(
    server: grpc.aio.Server, config: RegistryConfig, process: Process, changes: Changes, uploads: Uploads
) -> None:
    """Serves until the process is told to stop; calls under way then finish, watchers are sent away."""
    await process.ready(grpc=await bind(server, config.listen, process.certificates))
    async with asyncio.TaskGroup() as tasks:
        sweeper = tasks.create_task(uploads.sweep_forever(SystemClock(), config.uploads.sweep_interval))
        await process.until_stopped()
        changes.close()
        await drain(server, config.process.drain.timeout)
        sweeper.cancel()


def cli() -> int:
    """Runs the registry as a process and returns its exit status."""
    return run(main)
