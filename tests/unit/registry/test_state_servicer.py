"""StateService and Operations: who waits is woken, by news, by time, or because the registry stops."""

import asyncio
from collections.abc import Callable

import pytest
from google.longrunning import operations_pb2
from google.protobuf.duration_pb2 import Duration
from prometheus_client import CollectorRegistry

from infermesh.errors import InvalidInput, NotFound, NotReady
from infermesh.mesh import metrics
from infermesh.registry.catalog.base import Catalog
from infermesh.registry.changes import Changes
from infermesh.registry.operations_servicer import LongRunningServicer
from infermesh.registry.state_servicer import StateServicer
from infermesh.registry.threads import Threads
from infermesh.v1 import state_service_pb2 as pb
from infermesh.v1.deployment_pb2 import Deployment
from tests.unit.registry.messages import deployment, version


class Context:
    """A call with so many seconds left, or no deadline."""

    def __init__(self, remaining: float | None = None) -> None:
        self._remaining = remaining

    def time_remaining(self) -> float | None:
        """See grpc.aio.ServicerContext."""
        return self._remaining


@pytest.fixture
def gauges() -> CollectorRegistry:
    """Where metrics go."""
    return CollectorRegistry()


@pytest.fixture
def state(catalog: Catalog, threads: Threads, changes: Changes, gauges: CollectorRegistry) -> StateServicer:
    """A StateService on the catalog."""
    return StateServicer(catalog, threads, changes, metrics.desired_watchers(gauges), None)


@pytest.fixture
def operations(catalog: Catalog, threads: Threads, changes: Changes) -> LongRunningServicer:
    """An Operations service whose time stands still."""
    return LongRunningServicer(catalog, threads, changes, poll_interval=None, time=lambda: 100.0)


@pytest.fixture
def operation(catalog: Catalog) -> str:
    """The name of the running operation of deployment `d`."""
    catalog.versions.create("digits", version(), None, True)
    return catalog.deployments.create("d", deployment(), None).name


def active() -> pb.ReportDeploymentsRequest:
    """Returns the report that ends the operation."""
    report = pb.DeploymentReport(name="deployments/d", generation=1, state=Deployment.ACTIVE)
    return pb.ReportDeploymentsRequest(reports=[report])


async def test_a_watcher_gets_a_snapshot_at_once_and_after_every_change(
    state: StateServicer, catalog: Catalog, gauges: CollectorRegistry
) -> None:
    watch = state.WatchDesired(pb.WatchDesiredRequest(), Context())
    first = await anext(watch)
    assert list(first.deployments) == []
    assert gauges.get_sample_value("infermesh_desired_watchers") == 1
    catalog.versions.create("digits", version(), None, True)
    catalog.deployments.create("d", deployment(), None)
    second = await anext(watch)
    assert second.revision > first.revision
    assert [d.deployment.name for d in second.deployments] == ["deployments/d"]
    await watch.aclose()
    assert gauges.get_sample_value("infermesh_desired_watchers") == 0


async def test_a_watcher_hears_nothing_of_what_it_is_not_shown(
    state: StateServicer, catalog: Catalog, operation: str
) -> None:
    watch = state.WatchDesired(pb.WatchDesiredRequest(), Context())
    before = await anext(watch)
    await state.ReportDeployments(active(), Context())
    catalog.versions.create("unused", version(), None, True)
    catalog.deployments.delete("d", "")
    after = await anext(watch)  # the next snapshot is the one without the deployment, not an equal one before
    assert after.revision == before.revision + 1
    assert list(after.deployments) == []


async def test_a_watcher_of_a_shared_database_looks_by_itself(
    catalog: Catalog, threads: Threads, gauges: CollectorRegistry
) -> None:
    deaf = Changes()  # another process wrote: nobody announces it here
    state = StateServicer(catalog, threads, deaf, metrics.desired_watchers(gauges), 0.001)
    watch = state.WatchDesired(pb.WatchDesiredRequest(), Context())
    await anext(watch)
    catalog.versions.create("digits", version(), None, True)
    catalog.deployments.create("d", deployment(), None)
    assert len((await anext(watch)).deployments) == 1


async def test_watchers_are_sent_away_when_the_registry_stops(state: StateServicer, changes: Changes) -> None:
    watch = state.WatchDesired(pb.WatchDesiredRequest(), Context())
    await anext(watch)
    waiting = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0)
    changes.close()
    with pytest.raises(NotReady):
        await waiting


@pytest.mark.parametrize(
    "report",
    [
        pb.DeploymentReport(name="d", state=Deployment.ACTIVE),
        pb.DeploymentReport(name="deployments/d"),
        pb.DeploymentReport(name="deployments/d", state=99),  # type: ignore[arg-type]
    ],
)
async def test_a_bad_report_is_refused_as_a_whole(
    state: StateServicer, catalog: Catalog, operation: str, report: pb.DeploymentReport
) -> None:
    request = active()
    request.reports.append(report)
    with pytest.raises(InvalidInput):
        await state.ReportDeployments(request, Context())
    assert catalog.deployments.get("d").state == Deployment.DEPLOYING


async def test_a_report_that_says_nothing_new_writes_nothing(
    state: StateServicer, operation: str, changes: Changes
) -> None:
    await state.ReportDeployments(active(), Context())
    await asyncio.sleep(0)
    mark = changes.mark
    await state.ReportDeployments(active(), Context())
    await asyncio.sleep(0)
    assert changes.mark == mark


async def test_waiting_ends_with_the_operation(
    operations: LongRunningServicer, state: StateServicer, operation: str
) -> None:
    wait = operations_pb2.WaitOperationRequest(name=operation)
    waiter = asyncio.ensure_future(operations.WaitOperation(wait, Context()))
    await state.ReportDeployments(active(), Context())
    assert (await waiter).HasField("response")
    assert await operations.WaitOperation(wait, Context()) == await waiter  # done: answered at once


@pytest.mark.parametrize(
    ("timeout", "remaining"), [(Duration(), None), (Duration(seconds=60), 0.0), (None, 0.0), (Duration(), 60.0)]
)
async def test_waiting_ends_with_the_time(
    operations: LongRunningServicer, operation: str, timeout: Duration | None, remaining: float | None
) -> None:
    wait = operations_pb2.WaitOperationRequest(name=operation, timeout=timeout)
    assert not (await operations.WaitOperation(wait, Context(remaining))).done


async def test_waiting_ends_with_the_registry(
    operations: LongRunningServicer, operation: str, changes: Changes
) -> None:
    wait = operations_pb2.WaitOperationRequest(name=operation)
    waiter = asyncio.ensure_future(operations.WaitOperation(wait, Context()))
    await asyncio.sleep(0)
    changes.close()
    assert not (await waiter).done


async def test_bad_questions_about_operations_are_refused(operations: LongRunningServicer, operation: str) -> None:
    ask: list[tuple[type[Exception], Callable[[], object]]] = [
        (InvalidInput, lambda: operations.GetOperation(operations_pb2.GetOperationRequest(name="x"), Context())),
        (NotFound, lambda: operations.GetOperation(operations_pb2.GetOperationRequest(name="operations/x"), Context())),
        (
            InvalidInput,
            lambda: operations.WaitOperation(
                operations_pb2.WaitOperationRequest(name=operation, timeout=Duration(seconds=-1)), Context()
            ),
        ),
        (InvalidInput, lambda: operations.ListOperations(_list(name="models"), Context())),
        (InvalidInput, lambda: operations.ListOperations(_list(filter="done=maybe"), Context())),
        (InvalidInput, lambda: operations.ListOperations(_list(filter="colour=red"), Context())),
    ]
    for error, call in ask:
        with pytest.raises(error):
            await call()  # type: ignore[misc]


def _list(**fields: object) -> operations_pb2.ListOperationsRequest:
    return operations_pb2.ListOperationsRequest(**fields)


async def test_operations_are_listed_by_filter(
    operations: LongRunningServicer, catalog: Catalog, operation: str
) -> None:
    other = catalog.deployments.create("e", deployment(), None).name
    await operations.CancelOperation(operations_pb2.CancelOperationRequest(name=operation), Context())

    async def listed(text: str) -> list[str]:
        return [o.name for o in (await operations.ListOperations(_list(filter=text), Context())).operations]

    assert await listed("") == [operation, other]
    assert await listed("done=true") == [operation]
    assert await listed("done = false AND deployment = deployments/e") == [other]
    assert await listed("done=true AND deployment=deployments/e") == []
    page = await operations.ListOperations(_list(page_size=1), Context())
    rest = await operations.ListOperations(_list(page_size=1, page_token=page.next_page_token), Context())
    assert [o.name for o in rest.operations] == [other]
    await operations.DeleteOperation(operations_pb2.DeleteOperationRequest(name=operation), Context())
    assert await listed("") == [other]
