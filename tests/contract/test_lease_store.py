"""What every store of a Lease must do, on the one in memory and, where there is a cluster, on its API server."""

import contextlib
import os
import secrets
from collections.abc import AsyncIterator
from dataclasses import replace

import pytest

from infermesh.errors import Conflict
from infermesh.scheduler.config import LeaseConfig
from infermesh.scheduler.leadership.base import Lease, LeaseStore
from infermesh.testing.clock import FakeClock
from tests.unit.scheduler.leadership.leases import Board, RemoteLease

FIRST = Lease(holder="a", duration=10)


class Memory:
    """Two ways to one Lease in memory."""

    def __init__(self) -> None:
        board, clock = Board(), FakeClock()
        self.here, self.there = RemoteLease(board, clock), RemoteLease(board, clock)
        self.delete = board.delete


class Cluster:
    """Two ways to one Lease of a cluster."""

    def __init__(self) -> None:
        from infermesh.scheduler.cluster import api_client
        from infermesh.scheduler.leadership.kubernetes_lease import lease_of_cluster

        settings = LeaseConfig(
            name=f"infermesh-test-{secrets.token_hex(4)}", namespace="default", kubeconfig=os.environ["KUBECONFIG"]
        )
        self.here, self.there = lease_of_cluster(settings), lease_of_cluster(settings)
        self._settings, self._client = settings, api_client(settings.kubeconfig)

    def delete(self) -> None:
        from kubernetes import client

        with contextlib.suppress(client.ApiException):
            client.CoordinationV1Api(self._client).delete_namespaced_lease(
                self._settings.name, self._settings.namespace, _request_timeout=10
            )


def _cluster() -> Cluster:
    if "KUBECONFIG" not in os.environ:
        pytest.skip("no KUBECONFIG: it names the cluster")
    return Cluster()


@pytest.fixture(params=[Memory, pytest.param(_cluster, marks=pytest.mark.cluster, id="cluster")])
async def place(request: pytest.FixtureRequest) -> AsyncIterator[Memory | Cluster]:
    made = request.param()
    yield made
    made.delete()


@pytest.fixture
def here(place: Memory | Cluster) -> LeaseStore:
    return place.here


@pytest.fixture
def there(place: Memory | Cluster) -> LeaseStore:
    return place.there


async def test_at_first_there_is_none(here: LeaseStore) -> None:
    assert await here.read() is None


async def test_what_one_writes_the_other_reads(here: LeaseStore, there: LeaseStore) -> None:
    written = await here.write(FIRST)
    assert written.version
    assert await there.read() == written == replace(FIRST, version=written.version)


async def test_only_one_can_make_it(here: LeaseStore, there: LeaseStore) -> None:
    await here.write(FIRST)
    with pytest.raises(Conflict):
        await there.write(replace(FIRST, holder="b"))


async def test_a_write_over_what_is_there_gets_another_version(here: LeaseStore, there: LeaseStore) -> None:
    first = await here.write(FIRST)
    second = await here.write(replace(first, holder="b", duration=7, transitions=1))
    assert second.version != first.version
    assert await there.read() == replace(second, holder="b", duration=7, transitions=1)


async def test_the_same_again_gets_another_version(here: LeaseStore) -> None:
    first = await here.write(FIRST)
    assert (await here.write(first)).version != first.version


async def test_of_two_who_have_read_the_same_one_loses(here: LeaseStore, there: LeaseStore) -> None:
    await here.write(FIRST)
    mine, theirs = await here.read(), await there.read()
    assert mine is not None
    assert theirs is not None
    await here.write(replace(mine, holder="b"))
    with pytest.raises(Conflict):
        await there.write(replace(theirs, holder="c"))
    left = await there.read()
    assert left is not None
    assert left.holder == "b"


async def test_it_can_be_given_back(here: LeaseStore, there: LeaseStore) -> None:
    await here.write(replace(await here.write(FIRST), holder="", duration=1))
    left = await there.read()
    assert left is not None
    assert (left.holder, left.duration) == ("", 1)


async def test_when_it_was_acquired_stays_until_somebody_else_does(here: LeaseStore) -> None:
    first = await here.write(FIRST)
    second = await here.write(first)
    assert second.acquired == first.acquired


async def test_what_was_deleted_is_gone_and_can_be_made_anew(place: Memory | Cluster) -> None:
    first = await place.here.write(FIRST)
    place.delete()
    assert await place.here.read() is None
    second = await place.here.write(FIRST)
    assert second.version != first.version
