"""`infermesh version`."""

from importlib.metadata import PackageNotFoundError
from importlib.metadata import version as installed

import typer


def version() -> None:
    """Print the version."""
    try:
        typer.echo(installed("infermesh"))
    except PackageNotFoundError:  # run from a checkout
        typer.echo("not installed")
