"""Good messages to begin with; a test changes what it is about."""

import hashlib
import itertools
from collections.abc import Callable

from infermesh.v1.deployment_pb2 import Deployment, TrafficTarget
from infermesh.v1.model_pb2 import ModelFile, ModelVersion, Sample, Signature
from infermesh.v1.tensor_pb2 import Tensor, TensorSpec

CONTENT = b"weights"


def digest(data: bytes) -> str:
    """Returns the digest of a file with this content."""
    return "sha256:" + hashlib.sha256(data).hexdigest()


def tensor(name: str, rows: int, columns: int) -> Tensor:
    """Returns an FP32 tensor of zeros."""
    return Tensor(name=name, datatype="FP32", shape=[rows, columns], data=bytes(4 * rows * columns))


def version(**changes: object) -> ModelVersion:
    """Returns a version that batches up to 8 rows: x[-1, 4] -> y[-1, 2], one file, one sample of 2 rows."""
    good = ModelVersion(
        backend="torch",
        files=[ModelFile(path="model.pt2", digest=digest(CONTENT), size_bytes=len(CONTENT))],
        signature=Signature(
            inputs=[TensorSpec(name="x", datatype="FP32", shape=[-1, 4])],
            outputs=[TensorSpec(name="y", datatype="FP32", shape=[-1, 2])],
        ),
        samples=[Sample(inputs=[tensor("x", 2, 4)], outputs=[tensor("y", 2, 2)], atol=1e-3)],
        max_batch_size=8,
        options={"entry": "model.pt2"},
    )
    good.MergeFrom(ModelVersion(**changes))  # type: ignore[arg-type]
    return good


def deployment(model: str = "digits", **targets: int) -> Deployment:
    """Returns a deployment of a model; `v2=1` is version 2 with weight 1, `prod=3` an alias with weight 3."""
    wanted = targets or {"v1": 1}
    traffic = [TrafficTarget(version=_target(name), weight=weight) for name, weight in wanted.items()]
    return Deployment(model=f"models/{model}", traffic=traffic)


def _target(name: str) -> str:
    return name[1:] if name[0] == "v" and name[1:].isdigit() else name


def ticking() -> Callable[[], int]:
    """Returns a clock in nanoseconds since 1970 that goes on by a second with every look."""
    times = itertools.count(1_700_000_000 * 10**9, 10**9)
    return lambda: next(times)
