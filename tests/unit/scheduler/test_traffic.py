"""Which versions answer: shares and aliases."""

import pytest

from infermesh.scheduler import traffic
from infermesh.scheduler.standing import Standing
from tests.unit.scheduler.build import deployment


def serving(*numbers: str) -> dict[str, Standing]:
    """Returns standings of 5 down to 1 where `numbers` serve."""
    return {n: Standing(n, serving=("w1",) if n in numbers else ()) for n in "54321"}


@pytest.mark.parametrize(
    ("targets", "up", "expected"),
    [
        ({"1": 9, "2": 1}, "12", {"1": 9, "2": 1}),
        ({"1": 9, "2": 0}, "12", {"1": 9}),
        # a new version gets its calls once it is ready; before, the version before it has them all
        ({"2": 1}, "1", {"1": 1}),
        ({"2": 1}, "12", {"2": 1}),
        # a rollback likewise
        ({"1": 1}, "2", {"2": 1}),
        # the highest stands in, not one of the targets
        ({"4": 1, "3": 9}, "123", {"2": 1, "3": 9}),
        # no stand-in: the other targets share all
        ({"1": 9, "2": 1}, "1", {"1": 9}),
        ({"1": 9, "2": 1}, "2", {"2": 1}),
        # one that was to get no calls gets none, whatever happens
        ({"1": 9, "2": 0}, "2", {}),
        ({"1": 9, "2": 0}, "23", {"3": 9}),
        # several without a ready version share one stand-in
        ({"3": 5, "4": 5}, "2", {"2": 10}),
        ({"1": 1}, "", {}),
    ],
)
def test_shares(targets: dict[str, int], up: str, expected: dict[str, int]) -> None:
    assert traffic.shares(deployment(targets=targets), serving(*up)) == expected


@pytest.mark.parametrize(
    ("targets", "up", "expected"),
    [
        ({"2": 1}, "2", "2"),
        ({"2": 1}, "1", "1"),
        # nobody answers for it yet: it is known all the same
        ({"2": 1}, "", "2"),
        # another target answers for it rather than nobody
        ({"1": 5, "2": 5}, "1", "1"),
        ({"1": 0, "2": 5}, "1", "2"),
        # an alias of something that is not deployed answers only if it happens to be there
        ({"1": 1}, "1", None),
        ({"1": 1}, "13", None),
        ({"1": 1}, "12", "2"),
    ],
)
def test_an_alias_of_version_2(targets: dict[str, int], up: str, expected: str | None) -> None:
    wanted = deployment(targets=targets, aliases={"prod": "2"})
    assert traffic.aliases(wanted, serving(*up)) == ({"prod": expected} if expected else {})
