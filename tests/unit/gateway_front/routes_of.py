"""Routes for tests: a deployment with versions in every state."""

from infermesh.v1 import scheduler_service_pb2 as pb
from infermesh.v1.deployment_pb2 import Deployment
from infermesh.v1.model_pb2 import Signature
from infermesh.v1.tensor_pb2 import TensorSpec
from infermesh.v1.worker_pb2 import HeldVersion

SIGNATURE = Signature(
    inputs=[
        TensorSpec(name="x", datatype="FP32", shape=[-1, 4]),
        TensorSpec(name="t", datatype="BYTES", shape=[-1, 1]),
    ],
    outputs=[TensorSpec(name="y", datatype="INT64", shape=[-1])],
)


def version(number: str, state=HeldVersion.READY, workers=("w1",), **more) -> pb.VersionRoute:
    """Returns a version; by default one that worker w1 holds ready."""
    settings = {"backend": "torch", "signature": SIGNATURE, "max_batch_size": 32, "digest": "d" + number} | more
    return pb.VersionRoute(version=number, state=state, workers=workers, **settings)


def deployment(name="digits", versions=None, **more) -> pb.DeploymentRoute:
    """Returns a deployment: version 3 failed, 2 is ready and gets the traffic, 1 is loading."""
    if versions is None:
        versions = [
            version("3", HeldVersion.FAILED, (), reason="tensor 'y' differs"),
            version("2"),
            version("1", HeldVersion.LOADING, (), load_seconds=2.5),
        ]
    ready = [v.version for v in versions if v.state == HeldVersion.READY]
    traffic = [pb.ResolvedRoute(version=v, weight=1) for v in ready[:1]]
    return pb.DeploymentRoute(
        deployment=name,
        model=name,
        versions=versions,
        traffic=traffic,
        aliases=more.pop("aliases", {"prod": ready[0]} if ready else {}),
        policy="round_robin",
        state=Deployment.ACTIVE,
        **more,
    )


def snapshot(*deployments: pb.DeploymentRoute, address="127.0.0.1:1") -> pb.RouteSnapshot:
    """Returns a snapshot with worker w1 at an address."""
    worker = pb.RouteWorker(id="w1", address=address, incarnation="i", weight=1)
    return pb.RouteSnapshot(revision=1, epoch="e", workers=[worker], deployments=deployments)
