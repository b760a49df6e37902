"""The seam behind which decoupled versions run: engines that advance many requests at once, step by step.

A request that is under way is a sequence, known by a number. A backend that can run decoupled versions is `Decoupled`
beside being a `Backend`; the engines that it gives are used inside runner processes only.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from infermesh.errors import MeshError
from infermesh.tensors import Array


@dataclass(frozen=True, slots=True)
class Emission:
    """One response for each of some sequences, or their end.

    `outputs` are stacked: the first dimension counts the sequences, and entry i is what `sequences[i]` gave; what a
    sequence gave has the shape of the signature. Without outputs there is no response. `finished` are those of the
    sequences that end with this; with an `error` all of them do.
    """

    sequences: Sequence[int]
    outputs: Mapping[str, Array] = field(default_factory=dict)
    finished: Collection[int] = ()
    error: MeshError | None = None


class StepEngine(Protocol):
    """Advances sequences. Called from one thread; every method blocks, and changes the engine's state."""

    def slots(self) -> int:
        """Returns how many sequences may be under way at once; always the same, above 0."""
        ...

    def add(self, sequence: int, inputs: Mapping[str, Array], outputs: Sequence[str]) -> None:
        """Takes up a sequence that wants these outputs; its number is not in use. It advances with the next step.

        The inputs are the engine's to keep. Raises InvalidInput if the model refuses them; anything else that it
        raises counts as the model's fault. The sequence is not under way then.
        """
        ...

    def step(self) -> Sequence[Emission]:
        """Advances sequences that are under way, and returns what they gave; called only while there are some.

        May return nothing. A sequence is in at most one emission, and ends with one that says so. Raises RunnerBroken
        if nothing can run any more; after anything else that it raises, every sequence is cancelled.
        """
        ...

    def cancel(self, sequence: int) -> None:
        """Forgets a sequence that is under way; nothing more of it is returned. Must not raise."""
        ...


@runtime_checkable
class Decoupled(Protocol):
    """What a backend is beside `Backend` if it can run decoupled versions."""

    def engine(self) -> StepEngine:
        """Returns the engine of the version that was loaded. Called once, after `load`. Raises LoadFailed."""
        ...
