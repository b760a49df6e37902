"""Traces as files: CSV with a header; `seconds` must be there, `model`, `rows`, `deadline_ms` and `priority` may be."""

import csv
from collections.abc import Iterable
from math import inf
from pathlib import Path
from typing import Final

from infermesh.errors import InvalidInput, NotFound
from infermesh.simulation.arrivals import Request

_COLUMNS: Final = ("seconds", "model", "rows", "deadline_ms", "priority")


def read(path: Path, slo: float) -> list[Request]:
    """Returns the requests of a trace by their time; `slo` (seconds) is for those that name no deadline.

    Raises NotFound or InvalidInput, which names the line.
    """
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            names = rows.fieldnames or []
            if "seconds" not in names or not set(names) <= set(_COLUMNS):
                raise InvalidInput(f"{path}: expected columns seconds and of {', '.join(_COLUMNS[1:])}, got {names}")
            found = [_request(row, f"{path}:{rows.line_num}", slo) for row in rows]
    except OSError as error:
        raise NotFound.of("trace", str(path), str(error.strerror)) from error
    return sorted(found, key=lambda request: request.at)


def _request(row: dict[str, str], where: str, slo: float) -> Request:
    try:
        request = Request(
            float(row["seconds"]),
            row.get("model") or "model",
            int(row.get("rows") or 1),
            float(row["deadline_ms"]) / 1e3 if row.get("deadline_ms") else slo,
            int(row.get("priority") or 0),
        )
    except (ValueError, TypeError) as error:
        raise InvalidInput(f"{where}: {error}") from error
    if not (0 <= request.at < inf and request.rows >= 1 and request.slo > 0):
        raise InvalidInput(f"{where}: expected seconds >= 0, rows >= 1 and deadline_ms > 0")
    return request


def write(path: Path, requests: Iterable[Request]) -> None:
    """Writes a trace."""
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(_COLUMNS)
        for request in requests:
            deadline = "" if request.slo == inf else f"{request.slo * 1e3:g}"
            rows.writerow([f"{request.at:.9f}", request.model, request.rows, deadline, request.priority])
