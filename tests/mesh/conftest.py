"""Meshes of real processes for the tests of this folder.

`mesh` is shared by all tests that leave it as it was; `rough_mesh` is shared by those that kill and restart its
services, and is put right again after each. Deployments are named by their tests, so that they do not meet.
"""

import itertools

import pytest

from infermesh.client import Client, Retry
from infermesh.testing import LocalMesh, MeshOptions
from tests.mesh import models

CPU = {"device": "cpu", "start_timeout": 60.0}


def pytest_collection_modifyitems(items):
    for item in items:
        if "tests/mesh/test_mesh_" in item.path.as_posix():
            item.add_marker(pytest.mark.mesh)


class Files:
    """Model files, written once for all tests: `files.torch(2)` is y = 2x + 1."""

    def __init__(self, folder):
        self._folder = folder
        self._made = {}

    def torch(self, scale):
        return self._make(models.torch_file, scale)

    def onnx(self, scale, ballast=0):
        return self._make(models.onnx_file, scale, *([ballast] if ballast else []))

    def _make(self, write, *arguments):
        key = (write, *arguments)
        if key not in self._made:
            self._made[key] = write(self._folder, *arguments)
        return self._made[key]


@pytest.fixture(scope="session")
def files(tmp_path_factory):
    """Model files by backend and scale."""
    return Files(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def mesh(tmp_path_factory):
    """A mesh of two workers, for tests that leave its services alone."""
    with LocalMesh(tmp_path_factory.mktemp("mesh"), MeshOptions(**CPU)) as running:
        yield running


@pytest.fixture(scope="session")
def client(mesh):
    """A client of `mesh` that never repeats a call."""
    with Client(mesh.gateway, retry=Retry(attempts=1)) as connected:
        yield connected


@pytest.fixture(scope="module")
def _rough_mesh(tmp_path_factory):
    with LocalMesh(tmp_path_factory.mktemp("rough"), MeshOptions(**CPU)) as running:
        yield running


@pytest.fixture
def rough_mesh(_rough_mesh):
    """A mesh whose services may be killed and restarted; whole again before the next test."""
    yield _rough_mesh
    for name in _rough_mesh.dead():
        _rough_mesh.restart(name)


@pytest.fixture
def rough_client(rough_mesh):
    """A client of `rough_mesh` that never repeats a call."""
    with Client(rough_mesh.gateway, retry=Retry(attempts=1)) as connected:
        yield connected


@pytest.fixture
def make_mesh(tmp_path):
    """Starts further meshes, each on the given folder below the test's own; all end with the test."""
    started = []

    def make(home="home", **options):
        mesh = LocalMesh(tmp_path / home, MeshOptions(**{**CPU, **options}))
        started.append(mesh)
        mesh.start()
        return mesh

    yield make
    for mesh in started:
        mesh.stop()


@pytest.fixture(scope="session")
def fresh_id():
    """Returns a function that makes ids nobody else uses."""
    numbers = itertools.count(1)
    return lambda kind="model": f"{kind}-{next(numbers)}"


@pytest.fixture(scope="session")
def affine(client, files, fresh_id):
    """A deployment on `mesh` of y = 2x + 1 (version 1, torch) on both workers; returns its id. Do not change it."""
    name = fresh_id("affine")
    client.push(name, files.torch(2), samples=models.samples(2))
    client.deploy(name, version=1, replicas=2)
    return name
