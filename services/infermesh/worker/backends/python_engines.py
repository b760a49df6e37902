"""Engines over classes that users wrote: their own `step`, or generators that take turns. Used by `python_backend`."""

import contextlib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Final

import numpy as np

from infermesh.errors import InvalidInput, LoadFailed, MeshError, ModelFailed
from infermesh.tensors import Array
from infermesh.worker.backends.engine import Emission

_SLOTS: Final = 256
_END: Final = object()
_STEPPING: Final = ("add", "step", "cancel")


def steps_itself(model: Any) -> bool:
    """Tells whether an object is an engine: it has `add`, `step` and `cancel`."""
    return all(callable(getattr(model, name, None)) for name in _STEPPING)


class GeneratorEngine:
    """Runs an `infer` that yields responses: in each step every sequence gets as far as its next one.

    Generators take turns in one thread, so that the class needs no locks; one that waits holds up the others. It may
    yield None to pass: nothing is sent, and the others go on.
    """

    def __init__(self, model: Any) -> None:
        self._model = model
        self._slots = _slots(model)
        self._running: dict[int, Iterator[Any]] = {}

    def slots(self) -> int:
        """See `StepEngine.slots`."""
        return self._slots

    def add(self, sequence: int, inputs: Mapping[str, Array], outputs: Sequence[str]) -> None:
        """See `StepEngine.add`. A plain dict is the only response."""
        try:
            answer = self._model.infer(dict(inputs))
        except ValueError as error:
            raise refused(error) from error
        if not isinstance(answer, Iterable):
            raise ModelFailed(f"infer: expected a generator of dicts of arrays, got {type(answer).__name__}")
        self._running[sequence] = iter([answer] if isinstance(answer, Mapping) else answer)

    def step(self) -> Sequence[Emission]:
        """See `StepEngine.step`."""
        given: list[tuple[int, dict[str, Array]]] = []
        ends: list[Emission] = []
        for sequence, generator in list(self._running.items()):
            try:
                answer = next(generator, _END)
                if answer is _END:
                    del self._running[sequence]
                    ends.append(Emission([sequence], finished=[sequence]))
                elif answer is not None:
                    given.append((sequence, arrays_of(answer)))
            except Exception as error:
                self.cancel(sequence)
                ends.append(Emission([sequence], finished=[sequence], error=_failure(error)))
        return [*_stacked(given), *ends]

    def cancel(self, sequence: int) -> None:
        """See `StepEngine.cancel`. The generator is closed: its `finally` runs."""
        generator = self._running.pop(sequence)
        with contextlib.suppress(Exception):  # whatever it says in parting concerns nobody any more
            if hasattr(generator, "close"):
                generator.close()


class ClassEngine:
    """Runs a class that steps by itself: `add(sequence, inputs)`, `step()` and `cancel(sequence)`."""

    def __init__(self, model: Any) -> None:
        self._model = model
        self._slots = _slots(model)

    def slots(self) -> int:
        """See `StepEngine.slots`."""
        return self._slots

    def add(self, sequence: int, inputs: Mapping[str, Array], outputs: Sequence[str]) -> None:
        """See `StepEngine.add`."""
        try:
            self._model.add(sequence, dict(inputs))
        except ValueError as error:
            raise refused(error) from error

    def step(self) -> Sequence[Emission]:
        """See `StepEngine.step`. What the class gives are triples: sequences, stacked outputs, those that end."""
        emissions = []
        for sequences, outputs, finished in self._model.step():
            given, ended = list(map(int, sequences)), set(map(int, finished))
            if given:
                emissions.append(Emission(given, arrays_of(outputs), ended.intersection(given)))
            if silent := ended.difference(given):
                emissions.append(Emission(list(silent), finished=silent))
        return emissions

    def cancel(self, sequence: int) -> None:
        """See `StepEngine.cancel`."""
        with contextlib.suppress(Exception):
            self._model.cancel(sequence)


def arrays_of(answer: Any) -> dict[str, Array]:
    """Returns the arrays of an answer of the user's class. Raises ModelFailed if it is no dict."""
    if not isinstance(answer, Mapping):
        raise ModelFailed(f"infer: expected a dict of arrays, got {type(answer).__name__}")
    return {name: np.asarray(value) for name, value in answer.items()}


def refused(error: ValueError) -> InvalidInput:
    """Returns how a class refuses an input: it raises ValueError."""
    return InvalidInput(f"the model refused this input: {error}")


def _failure(error: Exception) -> MeshError:
    if isinstance(error, MeshError):
        return error
    if isinstance(error, ValueError):
        return refused(error)
    failed = ModelFailed(f"the model failed: {type(error).__name__}: {str(error).strip().partition(chr(10))[0][:300]}")
    failed.__cause__ = error
    return failed


def _stacked(given: Sequence[tuple[int, dict[str, Array]]]) -> list[Emission]:
    """Returns what sequences gave as few emissions: those with the same shapes together."""
    alike: dict[Any, list[tuple[int, dict[str, Array]]]] = {}
    for sequence, arrays in given:
        layout = tuple((name, array.dtype, array.shape) for name, array in arrays.items())
        alike.setdefault(layout, []).append((sequence, arrays))
    return [
        Emission(
            [sequence for sequence, _ in group],
            {name: np.stack([arrays[name] for _, arrays in group]) for name in group[0][1]},
        )
        for group in alike.values()
    ]


def _slots(model: Any) -> int:
    slots = getattr(model, "slots", _SLOTS)
    if not isinstance(slots, int) or slots < 1:
        raise LoadFailed(f"slots: expected an integer above 0, got {slots!r}")
    return slots
