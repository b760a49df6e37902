"""`infermesh config-schema`."""

import json
from collections.abc import Mapping
from enum import StrEnum
from importlib import import_module
from typing import Annotated, Any

import typer

from infermesh.cli.output import print_json
from infermesh.mesh.config import settings


class Room(StrEnum):
    """The services."""

    gateway = "gateway"
    registry = "registry"
    scheduler = "scheduler"
    worker = "worker"


def config_schema(room: Annotated[Room, typer.Argument(help="Service.")]) -> None:
    """Print the JSON schema of a service's configuration file."""
    print_json(schema_of(room))


def config_class(room: str) -> type[Any]:
    """Returns the dataclass that a room's configuration is read into."""
    found: type[Any] = getattr(import_module(f"infermesh.{room}.config"), f"{room.title()}Config")
    return found


def schema_of(room: str) -> dict[str, Any]:
    """Returns the JSON schema of a room's configuration file; an unknown key does not validate.

    The settings of every process stand at top level, as they do in the file.
    """
    from pydantic import TypeAdapter

    cls = config_class(room)
    raw = TypeAdapter(cls).json_schema()
    schema = _inline(raw, raw.pop("$defs", {}))
    schema["properties"].update(schema["properties"].pop("process")["properties"])
    for setting in settings(cls):
        node = schema
        for part in setting.key.split("."):
            node = node["properties"][part]
        node["description"] = setting.help
        node["default"] = json.loads(json.dumps(setting.default))
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        **schema,
        "title": f"configuration of the {room}",
    }


def _inline(node: Any, definitions: Mapping[str, Any]) -> Any:
    """Puts definitions where they are used and closes objects against unknown keys."""
    if isinstance(node, list):
        return [_inline(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:
        return _inline(definitions[node["$ref"].rpartition("/")[2]], definitions)
    result = {key: _inline(value, definitions) for key, value in node.items()}
    if "properties" in result:
        result.setdefault("additionalProperties", False)
    return result
