"""What a deployment may look like, and which of its changes are changes of what is wanted."""

from collections.abc import Mapping, Sequence

from google.protobuf.duration_pb2 import Duration
from google.protobuf.field_mask_pb2 import FieldMask

from infermesh import names
from infermesh.errors import InvalidInput, NotFound
from infermesh.registry.rules.fields import (
    bad,
    check_count,
    check_device,
    check_labels,
    check_range,
    check_unique,
    masked,
)
from infermesh.v1.deployment_pb2 import Batching, Deployment, Hedging

CHANGEABLE = (
    "traffic",
    "replicas",
    "device",
    "batching",
    "policy",
    "labels",
    "hedging",
    "single_flight",
    "pool",
    "all_workers",
)
LATEST = "latest"

_TARGETS_MAX = 64
_REPLICAS_MAX = 10_000
_DELAY_MAX = 60.0
_BUDGET_MAX = 0.5  # of the calls twice: beyond it hedging is no help but a load
_INT32_MAX = 2**31 - 1


def check_deployment(deployment: Deployment) -> None:
    """Raises InvalidInput naming the first field that is not as deployment.proto says; looks at nothing else."""
    names.parse("models/*", deployment.model)
    _check_traffic(deployment)
    check_range("deployment.replicas", deployment.replicas, 0, _REPLICAS_MAX)
    check_device("deployment.device", deployment.device)
    _check_batching(deployment.batching)
    if deployment.policy:
        names.check_id("policy", deployment.policy)
    check_labels("deployment.labels", deployment.labels)
    _check_hedging(deployment.hedging)
    if deployment.pool:
        names.check_id("pool", deployment.pool)


def _check_traffic(deployment: Deployment) -> None:
    check_count("deployment.traffic", len(deployment.traffic), 1, _TARGETS_MAX)
    check_unique("deployment.traffic", (target.version for target in deployment.traffic))
    for index, target in enumerate(deployment.traffic):
        field = f"deployment.traffic[{index}]"
        check_range(f"{field}.weight", target.weight, 0, _INT32_MAX)
        if target.version == LATEST or names.is_version(target.version):
            continue
        try:
            names.check_alias(target.version)
        except InvalidInput as error:
            raise bad(f"{field}.version", "a version number, an alias or 'latest'", target.version) from error
    if not any(target.weight for target in deployment.traffic):
        raise bad("deployment.traffic", "a weight above 0 for at least one target", 0)


def _check_batching(batching: Batching) -> None:
    check_range("deployment.batching.max_batch_size", batching.max_batch_size, 0, _INT32_MAX)
    check_range("deployment.batching.max_queue", batching.max_queue, 0, _INT32_MAX)
    _check_delay("deployment.batching.max_delay", batching.max_delay)


def _check_hedging(hedging: Hedging) -> None:
    if not 0 <= hedging.budget <= _BUDGET_MAX:  # not true of NaN either
        raise bad("deployment.hedging.budget", f"a share from 0 to {_BUDGET_MAX:g}", hedging.budget)
    _check_delay("deployment.hedging.delay", hedging.delay)
    if hedging.HasField("delay") and not hedging.budget:
        raise bad(
            "deployment.hedging.budget", "above 0 where a delay is given: without a budget nothing is sent twice", 0
        )


def _check_delay(field: str, duration: Duration) -> None:
    delay = duration.seconds + duration.nanos / 1e9
    if not 0 <= delay <= _DELAY_MAX or duration.nanos < 0:
        raise bad(field, f"0 to {_DELAY_MAX:g} seconds", delay)


def updated(current: Deployment, wanted: Deployment, mask: FieldMask | None) -> Deployment:
    """Returns `current` with the masked fields of `wanted`.

    Raises InvalidInput for an unknown path, a bad value, or another model: the model is immutable.
    """
    if wanted.model and wanted.model != current.model:
        raise bad("deployment.model", f"{current.model} (it is immutable)", wanted.model)
    deployment = masked(current, wanted, mask, CHANGEABLE)
    check_deployment(deployment)
    return deployment


def wants_the_same(one: Deployment, other: Deployment) -> bool:
    """Tells whether two states of a deployment ask workers and gateways for the same; labels do not count."""
    first, second = Deployment(), Deployment()
    for copy, source in ((first, one), (second, other)):
        copy.CopyFrom(only_wanted(source))
        copy.ClearField("labels")
    return first == second


def only_wanted(deployment: Deployment) -> Deployment:
    """Returns a copy that holds what the caller of create and update decides: model and the changeable fields."""
    kept = Deployment()
    kept.CopyFrom(deployment)
    for field, _ in deployment.ListFields():
        if field.name not in ("model", *CHANGEABLE):
            kept.ClearField(field.name)
    return kept


def resolve(model: str, version: str, numbers: Sequence[int], aliases: Mapping[str, int]) -> int:
    """Returns the number that `version` (number, alias or `latest`) stands for among the versions of a model.

    `numbers` are the versions that there are, `aliases` point at them. Raises NotFound.
    """
    if version == LATEST:
        if not numbers:
            raise NotFound.of("model version", names.version_name(model, version), "the model has no version yet")
        return max(numbers)
    if not names.is_version(version):
        if version not in aliases:
            raise NotFound.of("alias", names.alias_name(model, version), "list the aliases of the model")
        return aliases[version]
    if int(version) not in numbers:
        raise NotFound.of("model version", names.version_name(model, version), "list the versions of the model")
    return int(version)
