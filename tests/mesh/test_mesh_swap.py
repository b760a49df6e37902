"""Changing what is served: no call fails, and what is broken never gets a call."""

import time

import numpy as np
import pytest

from infermesh import errors
from tests.mesh.models import ROW, answer, samples
from tests.mesh.traffic import Traffic


@pytest.fixture
def two_versions(client, files, fresh_id):
    """A deployment of version 1 by alias prod, with a version 2 pushed beside it."""
    name = fresh_id("swap")
    client.push(name, files.onnx(2), samples=samples(2))
    client.push(name, files.onnx(3), samples=samples(3))
    client.set_alias(name, "prod", 1)
    client.deploy(name, version="prod", replicas=2)
    return name


def test_moving_an_alias_fails_no_call(mesh, client, two_versions):
    with Traffic(mesh.gateway, two_versions, {"1": 2, "2": 3}) as traffic:
        traffic.more(200)
        client.set_alias(two_versions, "prod", 2, expected=1)
        while not traffic.versions["2"]:
            traffic.more(50)
        traffic.more(500)
    assert traffic.failures == []
    assert traffic.versions["1"] > 0
    result = client.infer(two_versions, {"x": ROW}, version="prod")
    assert result.version == "2"


def test_changing_traffic_back_and_forth_fails_no_call(mesh, client, two_versions):
    with Traffic(mesh.gateway, two_versions, {"1": 2, "2": 3}) as traffic:
        for version in (2, 1, 2):
            client.deploy(two_versions, version=version, replicas=2)
            traffic.more(200)
    assert traffic.failures == []


def test_an_alias_that_has_moved_meanwhile_is_not_moved(client, two_versions):
    client.set_alias(two_versions, "canary", 2)
    with pytest.raises(errors.Conflict):
        client.set_alias(two_versions, "canary", 1, expected=1)
    assert client.get_alias(two_versions, "canary").version.endswith("/2")


def test_a_version_that_answers_otherwise_than_its_samples_is_never_routed_to(mesh, client, files, fresh_id):
    name = fresh_id("golden")
    client.push(name, files.onnx(2), samples=samples(2))
    client.deploy(name, version=1, replicas=2)
    client.push(name, files.onnx(3), samples=samples(2.5))  # samples of another model
    with Traffic(mesh.gateway, name, {"1": 2}) as traffic:
        with pytest.raises(errors.FailedPrecondition, match='output "y"') as caught:
            client.deploy(name, version=2, replicas=2, timeout=60)
        traffic.more(200)
    assert traffic.failures == []
    assert set(traffic.versions) == {"1"}
    assert "expected" in caught.value.message
    deployment = client.get_deployment(name)
    assert deployment.state == deployment.FAILED
    assert "y" in next(version.failure for version in deployment.versions if version.version == "2")
    # one failure fails the deployment; until the other worker has tried, too, the version counts as loading
    until = time.monotonic() + 30
    while True:
        with pytest.raises((errors.LoadFailed, errors.NotReady)) as refused:
            client.infer(name, {"x": ROW}, version="2")
        if isinstance(refused.value, errors.LoadFailed):
            break
        assert time.monotonic() < until, "it is said to be loading for ever"
        time.sleep(0.1)


def test_a_broken_file_says_why_and_the_next_deploy_heals(client, files, fresh_id, tmp_path):
    name = fresh_id("broken")
    client.push(name, files.onnx(2), samples=samples(2))
    client.deploy(name, version=1)
    broken = tmp_path / "model.onnx"
    broken.write_bytes(files.onnx(2).read_bytes()[:-20] + b"x" * 20)
    signature = client.get_version(name, 1).signature
    client.push(name, broken, signature=signature, backend="onnx")
    with pytest.raises(errors.FailedPrecondition) as caught:
        client.deploy(name, version=2, timeout=60)
    assert "Traceback" not in caught.value.message
    assert client.infer(name, {"x": ROW}).version == "1"
    client.push(name, files.onnx(3), samples=samples(3))
    client.deploy(name, version=3)
    result = client.infer(name, {"x": ROW})
    assert result.version == "3"
    np.testing.assert_array_equal(result["y"], answer(ROW, 3)["y"])


def test_what_is_deployed_or_named_cannot_be_deleted(client, two_versions):
    with pytest.raises(errors.FailedPrecondition):
        client.delete_version(two_versions, 1)
    with pytest.raises(errors.FailedPrecondition):
        client.delete_model(two_versions)
    client.delete_version(two_versions, 2)
    with pytest.raises(errors.NotFound):
        client.get_version(two_versions, 2)
    client.undeploy(two_versions)
    client.delete_model(two_versions)
    with pytest.raises(errors.NotFound):
        client.get_model(two_versions)
