"""`infermesh logs`."""

import json
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Annotated, Any, Final, TextIO

import typer

from infermesh.cli.options import DEFAULT_HOME, Format, Home, Output
from infermesh.errors import NotFound

_KNOWN: Final = ("timestamp", "level", "event", "room")


def logs(
    services: Annotated[
        list[str] | None, typer.Argument(help="Services, e.g. gateway or worker-1; default: all.")
    ] = None,
    lines: Annotated[int, typer.Option("--lines", "-n", help="Last lines of each service.", min=0)] = 20,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing what is logged, until Ctrl-C.")
    ] = False,
    home: Home = DEFAULT_HOME,
    output: Output = Format.table,
) -> None:
    """Show what the services of the local mesh logged; with --output json the lines as they were written."""
    files = find_logs(home, services or [])
    places = {}
    for service, file in files.items():
        with file.open(encoding="utf-8", errors="replace") as stream:
            for line in tail(stream, lines):
                _print(service, line, output)
            places[service] = stream.tell()
    if follow:
        for service, line in _follow(files, places):
            _print(service, line, output)


def find_logs(home: Path, services: Sequence[str]) -> dict[str, Path]:
    """Returns the log files by service. Raises NotFound, naming what there is."""
    found = {file.stem: file for file in sorted((home / "logs").glob("*.log"))}
    if not found:
        raise NotFound.of("logs", str(home / "logs"), "the mesh on this home was never started: infermesh up")
    for service in services:
        if service not in found:
            raise NotFound.of("service", service, f"there are logs of {', '.join(found)}")
    return {service: file for service, file in found.items() if not services or service in services}


def tail(stream: TextIO, lines: int) -> list[str]:
    """Returns the last lines of a stream, which is at its end afterwards."""
    everything = stream.readlines()
    return everything[len(everything) - lines :] if lines < len(everything) else everything


def pretty(line: str) -> str:
    """Returns a line of JSON as `time level event key=value …`; any other line as it is."""
    try:
        record: Any = json.loads(line)
    except json.JSONDecodeError:
        return line.rstrip("\n")
    if not isinstance(record, dict):
        return line.rstrip("\n")
    rest = " ".join(f"{key}={value}" for key, value in record.items() if key not in _KNOWN)
    moment = str(record.get("timestamp", ""))[11:23]
    return f"{moment} {record.get('level', ''):7} {record.get('event', '')} {rest}".strip()


def _print(service: str, line: str, output: Format) -> None:
    typer.echo(line.rstrip("\n") if output is Format.json else f"{service:10} {pretty(line)}")


def _follow(files: dict[str, Path], places: dict[str, int]) -> Iterator[tuple[str, str]]:
    while True:
        for service, file in files.items():
            yield from ((service, line) for line in _new_lines(service, file, places))
        time.sleep(0.2)


def _new_lines(service: str, file: Path, places: dict[str, int]) -> Iterable[str]:
    with file.open(encoding="utf-8", errors="replace") as stream:
        stream.seek(places[service])
        lines = stream.readlines()
        if lines and not lines[-1].endswith("\n"):  # half-written: next time
            del lines[-1]
        places[service] += sum(len(line.encode()) for line in lines)
    return lines
