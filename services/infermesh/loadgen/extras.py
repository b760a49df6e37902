"""Libraries that only load tests need, and the error where they are absent."""

from importlib import import_module
from types import ModuleType

from infermesh.errors import ConfigError


class MissingExtra(ConfigError):
    """A library of the optional extra `bench` is not installed."""

    reason = "MISSING_EXTRA"


def library(name: str) -> ModuleType:
    """Imports a library of the extra `bench`. Raises MissingExtra, which names the command that installs it."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        wanted = name.partition(".")[0]
        if error.name is None or error.name.partition(".")[0] != wanted:
            raise
        raise MissingExtra(
            f"{wanted} is not installed; install the extra that brings it: pip install 'infermesh[bench]'",
            metadata={"library": wanted, "extra": "bench"},
        ) from error
