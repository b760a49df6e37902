"""Runs a class that the user wrote: only where the operator allows it, and only inside a runner process.

The class is named by the version's option `class` as `module:Class` (default `model:Model`), the module is a file of
the version. It has `load(folder)` and `infer(inputs)`, both plain functions:

    class Model:
        def load(self, folder: str) -> None: ...
        def infer(self, inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]: ...

`infer` gets a whole batch. To refuse an input it raises ValueError (or `infermesh.errors.InvalidInput`): the caller
gets INVALID_ARGUMENT with its text. Anything else is a fault of the model: INTERNAL.

In a decoupled version a request may have any number of responses. There `infer` gets one request, and yields a dict
for each response; the generators of the requests under way take turns. Or the class advances all of them together:

    class Model:
        slots = 64                                       # most requests at once, 256 by default
        def add(self, sequence: int, inputs): ...        # takes up a request, under this number
        def step(self): ...                              # returns triples: see below
        def cancel(self, sequence: int): ...             # forgets one

`step` returns a list of (sequences, outputs, finished): `outputs` maps names to arrays whose entry i is a response for
`sequences[i]`; `finished` are sequences that end now, with a response or without.
"""

import importlib
import inspect
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

from infermesh.errors import InvalidInput, LoadFailed
from infermesh.tensors import Array
from infermesh.worker.backends.base import LoadContext
from infermesh.worker.backends.engine import StepEngine
from infermesh.worker.backends.python_engines import ClassEngine, GeneratorEngine, arrays_of, refused, steps_itself

_CLASS: Final = re.compile(r"(?P<module>[A-Za-z_]\w*(?:\.[A-Za-z_]\w*)*):(?P<name>[A-Za-z_]\w*)")


class PythonBackend:
    """Runs `module:Class` out of the version's folder."""

    def __init__(self) -> None:
        self._model: Any = None

    def load(self, context: LoadContext) -> None:
        """See `Backend.load`."""
        if not context.allow_python:
            raise LoadFailed(
                "backend python: this worker does not allow code in versions; its operator can start it with "
                "--allow-python",
                reason="PYTHON_NOT_ALLOWED",
            )
        named = context.version.options.get("class", "model:Model")
        model_class = _import(named, context)
        try:
            self._model = model_class()
            if hasattr(self._model, "load"):
                self._model.load(str(context.folder))
        except Exception as error:
            raise LoadFailed(f"class {named!r}: {type(error).__name__}: {error}") from error
        _check(self._model, named, context.version.decoupled)

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """See `Backend.infer`."""
        try:
            answer = self._model.infer(dict(inputs))
        except InvalidInput:
            raise
        except ValueError as error:
            raise refused(error) from error
        return arrays_of(answer)

    def engine(self) -> StepEngine:
        """See `Decoupled.engine`."""
        return ClassEngine(self._model) if steps_itself(self._model) else GeneratorEngine(self._model)

    def use_threads(self, threads: int) -> None:
        """Does nothing: the user's code decides."""

    def memory_bytes(self) -> int | None:
        """Returns None: what the class takes elsewhere is unknown."""
        return None

    def close(self) -> None:
        """See `Backend.close`."""
        self._model = None


def _check(model: Any, named: str, decoupled: bool) -> None:
    infer = getattr(model, "infer", None)
    if decoupled and steps_itself(model):
        return
    if not callable(infer):
        either = "infer(inputs), or add, step and cancel" if decoupled else "infer(inputs)"
        raise LoadFailed(f"class {named!r}: expected a method {either}, it has none")
    if inspect.isgeneratorfunction(infer) and not decoupled:
        raise LoadFailed(f"class {named!r}: infer yields its responses: push the version as a decoupled one")


def _import(named: str, context: LoadContext) -> Any:
    match = _CLASS.fullmatch(named)
    if match is None:
        raise LoadFailed(f"option 'class': expected 'module:Class', got {named!r}")
    module_name, name = match["module"], match["name"]
    file = context.folder.joinpath(*module_name.split("."))
    if not file.with_suffix(".py").is_file() and not (file / "__init__.py").is_file():
        raise LoadFailed(f"class {named!r}: expected a file {module_name.replace('.', '/')}.py in the version")
    sys.path.insert(0, str(context.folder))  # this process runs nothing else
    sys.dont_write_bytecode = True  # the folder belongs to the cache, whose content is verified by digest
    try:
        module = importlib.import_module(module_name)
    except Exception as error:
        raise LoadFailed(f"class {named!r}: {type(error).__name__}: {error}") from error
    if not str(getattr(module, "__file__", "")).startswith(str(context.folder)):
        raise LoadFailed(f"class {named!r}: the name {module_name!r} is taken by an installed module, choose another")
    try:
        return getattr(module, name)
    except AttributeError:
        raise LoadFailed(f"class {named!r}: module {module_name!r} has no {name!r}") from None
