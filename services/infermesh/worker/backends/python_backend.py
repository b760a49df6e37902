"""Runs a class that the user wrote: only where the operator allows it, and only inside a runner process.

The class is named by the version's option `class` as `module:Class` (default `model:Model`), the module is a file of
the version. It has `load(folder)` and `infer(inputs)`, both plain functions:

    class Model:
        def load(self, folder: str) -> None: ...
        def infer(self, inputs: dict[str, numpy.ndarray]) -> dict[str, numpy.ndarray]: ...

`infer` gets a whole batch. To refuse an input it raises ValueError (or `infermesh.errors.InvalidInput`): the caller
gets INVALID_ARGUMENT with its text. Anything else is a fault of the model: INTERNAL.
"""

import importlib
import re
import sys
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np

from infermesh.errors import InvalidInput, LoadFailed, ModelFailed
from infermesh.tensors import Array
from infermesh.worker.backends.base import LoadContext

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
        if not callable(getattr(self._model, "infer", None)):
            raise LoadFailed(f"class {named!r}: expected a method infer(inputs), it has none")

    def infer(self, inputs: Mapping[str, Array], outputs: Sequence[str]) -> Mapping[str, Array]:
        """See `Backend.infer`."""
        try:
            answer = self._model.infer(dict(inputs))
        except InvalidInput:
            raise
        except ValueError as error:
            raise InvalidInput(f"the model refused this input: {error}") from error
        if not isinstance(answer, Mapping):
            raise ModelFailed(f"infer: expected a dict of arrays, got {type(answer).__name__}")
        return {name: np.asarray(value) for name, value in answer.items()}

    def use_threads(self, threads: int) -> None:
        """Does nothing: the user's code decides."""

    def memory_bytes(self) -> int | None:
        """Returns None: what the class takes elsewhere is unknown."""
        return None

    def close(self) -> None:
        """See `Backend.close`."""
        self._model = None


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
