"""Tables of implementations behind a seam: ours by name, third parties' by entry point, imported when first used."""

from collections.abc import Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import Any, Generic, TypeVar, cast

from infermesh.errors import ConfigError

T = TypeVar("T")


class Table(Generic[T]):
    """Names of implementations of one seam.

    `kind` names the seam in errors; `entries` maps a name to `module:attribute`; `group` is the entry point group in
    which other distributions may add theirs. Ours win over theirs.
    """

    def __init__(self, kind: str, entries: Mapping[str, str], group: str) -> None:
        self._kind = kind
        self._entries = dict(entries)
        self._group = group

    def names(self) -> tuple[str, ...]:
        """Returns all names, sorted."""
        return tuple(sorted({*self._entries, *(point.name for point in entry_points(group=self._group))}))

    def load(self, name: str) -> T:
        """Imports and returns the implementation (a class or factory). Raises ConfigError for an unknown name."""
        if name in self._entries:
            module, _, attribute = self._entries[name].partition(":")
            return cast(T, getattr(import_module(module), attribute))
        found: Any = [point for point in entry_points(group=self._group) if point.name == name]
        if not found:
            raise ConfigError(f"{self._kind}: expected one of {', '.join(self.names())}, got {name!r}")
        return cast(T, found[0].load())
