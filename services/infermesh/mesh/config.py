"""How a process is configured: flags over environment over file over defaults, into one frozen dataclass.

A room declares a frozen dataclass whose fields are `Annotated[type, "help"]` with defaults; a field that is itself a
dataclass is a group. The group `process` (settings of every process) is flattened: its settings stand at top level.
"""

import argparse
import json
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import MISSING, Field, dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import Annotated, Any, TypeVar, cast, get_origin, get_type_hints

import yaml
from pydantic import Field as Limit
from pydantic import TypeAdapter, ValidationError

from infermesh.errors import ConfigError

T = TypeVar("T")
_FLAT = "process"


@dataclass(frozen=True)
class LogConfig:
    """What is logged."""

    level: Annotated[str, Limit(pattern="^(debug|info|warning|error)$"), "debug, info, warning or error"] = "info"


@dataclass(frozen=True)
class TelemetryConfig:
    """Where traces go."""

    endpoint: Annotated[str, "host:port of an OTLP gRPC collector; empty switches traces off"] = ""
    sample_ratio: Annotated[float, Limit(ge=0, le=1), "share of traces begun here that are sampled"] = 1.0


@dataclass(frozen=True)
class DrainConfig:
    """How a process stops."""

    lame_duck: Annotated[float, Limit(ge=0), "seconds between NOT_SERVING and refusing new calls"] = 0.0
    timeout: Annotated[float, Limit(ge=0), "seconds that calls under way may take to finish"] = 30.0


@dataclass(frozen=True)
class TlsConfig:
    """Mutual TLS of everything that members of the mesh say to each other; without files it is plaintext."""

    cert: Annotated[str, "PEM file: this process' certificate, which it shows as server and as client"] = ""
    key: Annotated[str, "PEM file: the certificate's key"] = ""
    ca: Annotated[str, "PEM file: the authority that the others' certificates must be from"] = ""
    server_name: Annotated[
        str, "name that a server's certificate must carry, whatever address was dialled; empty: the dialled one"
    ] = "infermesh"


@dataclass(frozen=True)
class ProcessConfig:
    """Settings of every process."""

    health_listen: Annotated[str, "host:port of grpc.health.v1, in plaintext; port 0 takes a free one"] = "127.0.0.1:0"
    metrics_listen: Annotated[str, "host:port of /metrics; port 0 takes a free one"] = "127.0.0.1:0"
    ready_file: Annotated[str, "file to write the addresses to (JSON) once ready"] = ""
    log: LogConfig = field(default_factory=LogConfig)
    telemetry: TelemetryConfig = field(default_factory=TelemetryConfig)
    drain: DrainConfig = field(default_factory=DrainConfig)
    tls: TlsConfig = field(default_factory=TlsConfig)


@dataclass(frozen=True)
class Setting:
    """One value that can be set: `path` in the dataclass, `key` as users write it (`drain.timeout`)."""

    path: tuple[str, ...]
    key: str
    kind: Any
    default: Any
    help: str

    @property
    def flag(self) -> str:
        """The command-line flag: `--drain-timeout`."""
        return "--" + self.key.replace(".", "-").replace("_", "-")

    def env(self, room: str) -> str:
        """The environment variable: `INFERMESH_WORKER_DRAIN_TIMEOUT`."""
        return f"INFERMESH_{room}_{self.key.replace('.', '_')}".upper()


def settings(cls: type[Any]) -> list[Setting]:
    """Returns the settings of a config dataclass, in order."""
    return list(_walk(cls, (), ()))


def _walk(cls: type[Any], path: tuple[str, ...], keys: tuple[str, ...]) -> Iterator[Setting]:
    plain, full = get_type_hints(cls), get_type_hints(cls, include_extras=True)
    for item in fields(cls):
        here, kind = (*path, item.name), plain[item.name]
        shown = keys if item.name == _FLAT else (*keys, item.name)
        if is_dataclass(kind):
            yield from _walk(cast(type[Any], kind), here, shown)
        else:
            texts = [m for m in getattr(full[item.name], "__metadata__", ()) if isinstance(m, str)]
            yield Setting(here, ".".join(shown), kind, _default(item), texts[0] if texts else "")


def _default(item: Field[Any]) -> Any:
    if item.default is not MISSING:
        return item.default
    return item.default_factory() if item.default_factory is not MISSING else None


def load(cls: type[T], argv: Sequence[str], environ: Mapping[str, str], *, room: str) -> T:
    """Returns the configuration of `room`.

    `--config` (or INFERMESH_<ROOM>_CONFIG) names a YAML, TOML or JSON file. Raises ConfigError naming the key for an
    unknown key or a bad value, SystemExit for --help.
    """
    known = settings(cls)
    flags = _parse(known, argv, room)
    path = flags.pop("config", None) or environ.get(f"INFERMESH_{room}_CONFIG".upper(), "")
    groups = {setting.key.rpartition(".")[0] for setting in known}
    values = dict(_flatten(_read(Path(path)), "", groups)) if path else {}
    values |= _environment(known, environ, room) | flags
    by_key = {setting.key: setting for setting in known}
    unknown = sorted(set(values) - set(by_key))
    if unknown:
        raise ConfigError(f"{room} configuration: unknown key '{unknown[0]}'; known: {', '.join(by_key)}")
    return _build(cls, [(by_key[key], value) for key, value in values.items()], room)


def _parse(known: Sequence[Setting], argv: Sequence[str], room: str) -> dict[str, Any]:
    parser = _Parser(prog=f"infermesh {room}", allow_abbrev=False, argument_default=argparse.SUPPRESS)
    parser.add_argument("--config", help="YAML, TOML or JSON file with the keys below")
    for setting in known:
        text = f"{setting.help} [{setting.default!r}]".replace("%", "%%")
        if setting.kind is bool:
            action: Any = argparse.BooleanOptionalAction
            parser.add_argument(setting.flag, dest=setting.key, action=action, help=text)
        else:
            parser.add_argument(setting.flag, dest=setting.key, metavar="X", help=text)
    return vars(parser.parse_args(list(argv)))


class _Parser(argparse.ArgumentParser):
    def error(self, message: str) -> Any:
        raise ConfigError(f"{self.prog}: {message}; --help lists the flags")


def _environment(known: Sequence[Setting], environ: Mapping[str, str], room: str) -> dict[str, Any]:
    names = {setting.env(room): setting.key for setting in known}
    prefix, config = f"INFERMESH_{room}_".upper(), f"INFERMESH_{room}_CONFIG".upper()
    found = {name: value for name, value in environ.items() if name.startswith(prefix) and name != config}
    for name in found:
        if name not in names:
            raise ConfigError(f"{room} configuration: unknown environment variable {name}; known: {', '.join(names)}")
    return {names[name]: value for name, value in found.items()}


def _read(path: Path) -> dict[str, Any]:
    try:
        text = path.read_text()
        if path.suffix == ".toml":
            content: Any = tomllib.loads(text)
        else:
            content = json.loads(text) if path.suffix == ".json" else yaml.safe_load(text)
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"config: can't read {path}: {' '.join(str(error).split())}") from error  # YAML's has lines
    if not isinstance(content or {}, dict):
        raise ConfigError(f"config: {path}: expected keys with values, got {type(content).__name__}")
    return dict(content or {})


def _flatten(content: Mapping[str, Any], prefix: str, groups: set[str]) -> Iterator[tuple[str, Any]]:
    for key, value in content.items():
        if isinstance(value, dict) and f"{prefix}{key}" in groups:
            yield from _flatten(value, f"{prefix}{key}.", groups)
        else:
            yield f"{prefix}{key}", value


def _build(cls: type[T], values: Sequence[tuple[Setting, Any]], room: str) -> T:
    tree: dict[str, Any] = {}
    for setting, value in values:
        node = tree
        for part in setting.path[:-1]:
            node = node.setdefault(part, {})
        node[setting.path[-1]] = _split(setting.kind, value)
    try:
        return TypeAdapter(cls).validate_python(tree)
    except ValidationError as error:
        raise ConfigError(f"{room} configuration: {_said(error.errors()[0])}") from error


def _said(error: Any) -> str:
    """What is wrong, with the key. A check over several keys says all of it; its input is a whole group."""
    key = ".".join(str(part) for part in error["loc"] if part != _FLAT)
    own = error.get("ctx", {}).get("error")
    text = str(own) if own else f"{error['msg']}, got {error['input']!r}"
    return f"{key}: {text}" if key else text


def _split(kind: Any, value: Any) -> Any:
    """Takes apart what a flag or variable can only hold as text: `a,b` for tuples, `k=v,k=v` for mappings."""
    origin = get_origin(kind)
    if not isinstance(value, str) or origin is None:
        return value
    parts = [part.strip() for part in value.split(",") if part.strip()]
    if origin is tuple or origin is list:
        return parts
    if isinstance(origin, type) and issubclass(origin, Mapping):
        return dict(part.partition("=")[::2] for part in parts)
    return value
