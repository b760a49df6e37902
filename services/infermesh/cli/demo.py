"""`infermesh demo`: the whole product on real data, in under three minutes."""

from typing import Annotated

import typer
from rich.console import Console


def demo(
    seed: Annotated[int, typer.Option(help="Seed of the split and of the training.")] = 0,
    device: Annotated[str, typer.Option(help="Device of the two workers.")] = "cpu",
) -> None:
    """Trains two models on handwritten digits and serves them from a mesh of its own; exits 1 if a claim fails."""
    from infermesh.demo.main import DemoOptions, run
    from infermesh.testing.child import ServiceFailed

    console = Console()
    try:
        kept = run(DemoOptions(seed=seed, device=device), console)
    except ServiceFailed as error:
        typer.echo(error.log_tail, err=True)
        raise
    except KeyboardInterrupt:
        console.print("interrupted; everything is stopped")
        raise typer.Exit(130) from None
    raise typer.Exit(0 if kept else 1)
