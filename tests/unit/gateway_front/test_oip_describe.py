"""Routes as the protocol describes models."""

import pytest
from google.protobuf.duration_pb2 import Duration

from infermesh.datatypes import ITEM_SIZES
from infermesh.gateway.frontends.oip import describe
from infermesh.gateway.frontends.oip.plain import to_plain
from infermesh.oip.v2 import grpc_service_pb2 as oip
from infermesh.oip.v2 import model_config_pb2 as config
from infermesh.v1.deployment_pb2 import Batching
from infermesh.v1.model_pb2 import Signature
from infermesh.v1.tensor_pb2 import TensorSpec
from infermesh.v1.worker_pb2 import HeldVersion
from tests.unit.gateway_front.routes_of import deployment, version


def test_metadata_has_the_batch_dimension_and_the_ready_versions_only():
    ready = [version("10"), version("9"), version("8", HeldVersion.LOADING, ())]
    message = describe.metadata(deployment(versions=ready), ready[0])
    assert (message.name, list(message.versions), message.platform) == ("digits", ["9", "10"], "pytorch_libtorch")
    assert [(t.name, t.datatype, list(t.shape)) for t in message.inputs] == [
        ("x", "FP32", [-1, 4]),
        ("t", "BYTES", [-1, 1]),
    ]
    assert [(t.name, t.datatype, list(t.shape)) for t in message.outputs] == [("y", "INT64", [-1])]


def test_config_leaves_the_batch_dimension_out():
    found = version("2")
    message = describe.model_config(deployment(), found)
    assert (message.name, message.backend, message.max_batch_size) == ("digits", "pytorch", 32)
    assert [(t.name, t.data_type, list(t.dims)) for t in message.input] == [
        ("x", config.TYPE_FP32, [4]),
        ("t", config.TYPE_STRING, [1]),
    ]
    assert [(t.name, t.data_type, list(t.dims)) for t in message.output] == [("y", config.TYPE_INT64, [])]
    assert message.HasField("dynamic_batching")
    assert list(message.version_policy.specific.versions) == [2]


def test_config_of_a_model_without_batches_does_not_mention_batching():
    message = describe.model_config(deployment(), version("2", max_batch_size=0))
    assert message.max_batch_size == 0
    assert list(message.input[0].dims) == [-1, 4]
    assert message.WhichOneof("scheduling_choice") is None


@pytest.mark.parametrize(
    "field", ["sequence_batching", "response_cache", "model_transaction_policy", "ensemble_scheduling"]
)
def test_config_does_not_claim_what_is_not_meant(field):
    assert not describe.model_config(deployment(), version("2")).HasField(field)


@pytest.mark.parametrize(("own", "wanted", "shown"), [(32, 8, 8), (32, 0, 32), (32, 64, 32), (0, 8, 0)])
def test_the_smaller_batch_size_counts(own, wanted, shown):
    route = deployment(batching=Batching(max_batch_size=wanted, max_delay=Duration(nanos=5_000_000)))
    message = describe.model_config(route, version("2", max_batch_size=own))
    assert message.max_batch_size == shown
    assert message.dynamic_batching.max_queue_delay_microseconds == (5_000 if shown else 0)


@pytest.mark.parametrize("datatype", [*ITEM_SIZES, "BYTES"])
def test_every_datatype_has_a_name_in_the_config(datatype):
    signature = Signature(inputs=[TensorSpec(name="x", datatype=datatype, shape=[-1])])
    message = describe.model_config(deployment(), version("2", signature=signature))
    assert message.input[0].data_type != config.TYPE_INVALID


@pytest.mark.parametrize("backend", ["torch", "onnx", "python", "mine"])
def test_every_backend_has_a_platform(backend):
    platform, name = describe.platform_of(backend)
    assert platform
    assert name


def test_the_index_says_what_each_version_does():
    entries = [(e.version, e.state, e.reason) for e in describe.index(deployment())]
    assert entries == [("1", "LOADING", ""), ("2", "READY", ""), ("3", "UNAVAILABLE", "tensor 'y' differs")]


def test_the_index_of_a_version_that_nobody_has():
    (entry,) = describe.index(deployment(versions=[version("1", HeldVersion.STATE_UNSPECIFIED, ())]))
    assert (entry.state, entry.reason) == ("UNAVAILABLE", "not loaded")


def test_plain_values_are_numbers_names_and_all_scalars():
    message = describe.model_config(deployment(), version("2"))
    plain = to_plain(message)
    assert plain["max_batch_size"] == 32
    assert plain["input"][0] == {
        "name": "x",
        "data_type": "TYPE_FP32",
        "format": "FORMAT_NONE",
        "dims": [4],
        "is_shape_tensor": False,
        "allow_ragged_batch": False,
        "optional": False,
        "is_non_linear_format_io": False,
    }
    assert plain["version_policy"] == {"specific": {"versions": [2]}}
    assert "sequence_batching" not in plain


def test_plain_maps_and_large_numbers():
    message = oip.ModelStatistics(name="m", last_inference=2**63)
    message.response_stats["0"].success.count = 3
    plain = to_plain(message)
    assert plain["last_inference"] == 2**63
    assert plain["response_stats"] == {"0": {"success": {"count": 3, "ns": 0}}}
    assert plain["batch_stats"] == []
