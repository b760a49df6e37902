"""Planted faults are noticed, one of every kind. `make mutants` plants the others, too."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import infermesh
from tests.mutants.mutant import Misplaced, Mutant
from tests.mutants.table import MUTANTS
from tests.mutants.workshop import Workshop

PACKAGE = Path(infermesh.__file__).parent
FAST = [mutant for mutant in MUTANTS if not mutant.slow]


@pytest.fixture(scope="module")
def workshop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Workshop]:
    with Workshop(tmp_path_factory.mktemp("mutants")) as ours:
        yield ours


def test_the_table_is_in_order() -> None:
    assert len({mutant.name for mutant in MUTANTS}) == len(MUTANTS) >= 25
    assert all(mutant.old != mutant.new and mutant.tests and mutant.breaks for mutant in MUTANTS)


def test_every_fault_has_its_place_in_the_code_as_it_is() -> None:
    lost = []
    for mutant in MUTANTS:
        try:
            compile(mutant.mutated(PACKAGE), mutant.file, "exec")
        except (Misplaced, SyntaxError) as error:
            lost.append(str(error))
    assert not lost, "\n".join(lost)


def test_without_a_fault_the_tests_pass(workshop: Workshop) -> None:
    outcome = workshop.run(tuple(dict.fromkeys(test for mutant in FAST for test in mutant.tests)))
    assert outcome.passed, outcome.output[-4000:]


@pytest.mark.parametrize("mutant", FAST, ids=lambda mutant: mutant.name)
def test_a_planted_fault_is_noticed(workshop: Workshop, mutant: Mutant) -> None:
    outcome = workshop.run(mutant.tests, mutant)
    assert not outcome.passed, f"no test notices: {mutant.breaks}"
    assert outcome.failed, outcome.output[-2000:]
