"""A group of commands that are imported when called, and that fail with one line. Used by `main`."""

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any, ClassVar, Final

import typer
from typer.core import TyperCommand, TyperGroup

from infermesh.errors import ConfigError, MeshError

# typer exports only this leaf of its usage errors
_USAGE_ERROR: Final = typer.BadParameter.__mro__[1]


@dataclass(frozen=True)
class Entry:
    """A command: `module:attribute` of its function (or `typer.Typer`), its one-line help, settings of its context."""

    target: str
    help: str
    settings: Mapping[str, Any] = field(default_factory=dict)

    def load(self, name: str) -> Any:
        """Imports and returns the command."""
        module, _, attribute = self.target.partition(":")
        found = getattr(import_module(module), attribute)
        if isinstance(found, typer.Typer):
            app = found
        else:
            app = typer.Typer(add_completion=False)
            app.command(name, help=found.__doc__, context_settings=dict(self.settings))(found)
        command = typer.main.get_command(app)
        command.name = name
        return command


class Commands(TyperGroup):
    """Lists its commands from the table without importing them; turns every expected failure into one line."""

    entries: ClassVar[Mapping[str, Entry]] = {}

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        # for help, completion and suggestions
        self.commands = {name: TyperCommand(name, help=entry.help) for name, entry in self.entries.items()}

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:
        """Returns the real command in the place of the one for the list."""
        name, command, rest = super().resolve_command(ctx, args)
        if name is not None and name in self.entries:
            return name, self.entries[name].load(name), rest
        return name, command, rest

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        windows_expand_args: bool = True,
        **extra: Any,
    ) -> Any:
        """Runs, and exits with 0, 1 (failure), 2 (bad usage or configuration) or 130 (interrupt)."""

        def run() -> Any:
            return super(Commands, self).main(args, prog_name, complete_var, False, windows_expand_args, **extra)

        if not standalone_mode:
            return run()
        try:
            code = run()
        except Exception as error:
            failure = explain(error)
            if failure is None:
                raise
            line, code = failure
            typer.echo(line, err=True)
        sys.exit(code if isinstance(code, int) else 0)


def explain(error: Exception) -> tuple[str, int] | None:
    """Returns the line and exit code for an expected failure; None for a fault of ours, whose trace is wanted."""
    if isinstance(error, MeshError):
        return f"error: {_line(error.message)} [{error.reason}]", 2 if isinstance(error, ConfigError) else 1
    if isinstance(error, _USAGE_ERROR):
        context = getattr(error, "ctx", None)
        hint = f" (see: {context.command_path} --help)" if context else ""
        return f"error: {_line(getattr(error, 'format_message', error.__str__)())}{hint}", 2
    if isinstance(error, typer.Abort):
        return "error: aborted", 1
    return None


def _line(text: str) -> str:
    return " ".join(text.split())
