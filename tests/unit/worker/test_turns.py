"""Turns on a device: the most urgent first, no more at once than there are cores, nobody left behind."""

from math import inf

from infermesh.worker.turns import Turn, Turns


class Model:
    def __init__(self, urgency: float, free_at: float = 0.0) -> None:
        self.resumed = 0
        self.turn = Turn(lambda: (urgency,), lambda: free_at, self._resume)

    def _resume(self) -> None:
        self.resumed += 1


def test_the_most_urgent_of_those_that_wait_goes_next() -> None:
    turns, first, late, soon = Turns(1), Model(5), Model(9), Model(1)
    assert turns.take(first.turn)
    assert not turns.take(late.turn)
    assert not turns.take(soon.turn)
    assert turns.crowded()
    turns.give(first.turn)
    assert (soon.resumed, late.resumed) == (1, 0)
    turns.give(soon.turn)
    assert late.resumed == 1


def test_who_wants_to_go_on_stands_in_line_with_the_others() -> None:
    turns, one, other = Turns(1), Model(1), Model(2)
    assert turns.take(one.turn)
    assert not turns.take(other.turn)
    turns.give(one.turn, again=True)
    assert turns.take(one.turn), "it is still the most urgent"
    turns.give(one.turn)
    assert other.resumed == 1


def test_a_wish_can_be_withdrawn_and_a_turn_not_used_goes_on() -> None:
    turns, one, two, three = Turns(1), Model(1), Model(2), Model(3)
    assert turns.take(one.turn)
    assert not turns.take(two.turn)
    assert not turns.take(three.turn)
    turns.give(two.turn)
    turns.give(one.turn)
    assert (two.resumed, three.resumed) == (0, 1)


def test_as_many_as_there_are_cores_execute_at_once() -> None:
    turns, models = Turns(2), [Model(n, free_at=10.0 + n) for n in range(3)]
    assert [turns.take(model.turn) for model in models] == [True, True, False]
    assert turns.free_at(models[2].turn) == 10.0
    assert turns.free_at(models[0].turn) == -inf


def test_without_a_limit_everybody_executes() -> None:
    turns, models = Turns(), [Model(n) for n in range(9)]
    assert all(turns.take(model.turn) for model in models)
    for model in models:
        turns.give(model.turn, again=True)
    assert not turns.crowded()
    assert turns.free_at(models[0].turn) == -inf
