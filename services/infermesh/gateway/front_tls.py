"""TLS of the public ports. Envoy ends that of its own: what the bootstrap says of it, and files by which it sees
renewals; of the gRPC port we do.

Used by `envoy`, `supervisor` and `lifespan`. Envoy itself reads certificates and keys, and again when they are
replaced; it watches the folder of the certificate, where a mounted secret or a tool such as cert-manager puts a renewed
one in its place.
"""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from infermesh.errors import ConfigError
from infermesh.gateway.config import FrontTls
from infermesh.mesh.tls import Certificates

_INSPECTOR: Final = "filters.listener.tls_inspector"
_TLS: Final = "extensions.transport_sockets.tls.v3"
_CERTIFICATE: Final = "front-certificate"
_CLIENTS: Final = "front-clients"


@dataclass(frozen=True)
class _Files:
    cert: str
    key: str
    ca: str
    server_name: str = ""


def check(tls: FrontTls) -> None:
    """Raises ConfigError naming the setting if a file is missing, can't be read, or does not fit to the others."""
    if not tls.cert and (tls.key or tls.client_ca):
        raise ConfigError("front_tls.cert: expected a file: front_tls.cert and front_tls.key go together")
    certificates(tls)


def certificates(tls: FrontTls) -> Certificates | None:
    """Returns what the gRPC port speaks TLS with; None if it does not. Raises ConfigError."""
    files = _Files(tls.cert, tls.key, tls.client_ca)
    return Certificates(files, "front_tls", ca="client_ca") if tls.cert else None


def write_secrets(tls: FrontTls, folder: Path) -> None:
    """Writes what `configure` refers to: where the certificates are, not what they hold."""
    if not tls.cert:
        return
    pair = {"certificate_chain": _file(tls.cert), "private_key": _file(tls.key), **_watched(tls.cert)}
    _write(folder, _CERTIFICATE, {"tls_certificate": pair})
    if tls.client_ca:
        trusted = {"trusted_ca": _file(tls.client_ca), **_watched(tls.client_ca)}
        _write(folder, _CLIENTS, {"validation_context": trusted})


def configure(listener: dict[str, Any], tls: FrontTls, folder: Path, handshake: str) -> None:
    """Has a listener of the bootstrap speak TLS if there is a certificate; `handshake` is how long one may take."""
    if not tls.cert:
        return
    context: dict[str, Any] = {
        "common_tls_context": {
            "alpn_protocols": ["h2", "http/1.1"],
            "tls_certificate_sds_secret_configs": [_secret(folder, _CERTIFICATE)],
        }
    }
    if tls.client_ca:
        context["require_client_certificate"] = True
        context["common_tls_context"]["validation_context_sds_secret_config"] = _secret(folder, _CLIENTS)
    (chain,) = listener["filter_chains"]
    chain["transport_socket"] = _extension("envoy.transport_sockets.tls", f"{_TLS}.DownstreamTlsContext", **context)
    chain["transport_socket_connect_timeout"] = handshake
    listener["listener_filters"] = [_extension(f"envoy.{_INSPECTOR}", f"extensions.{_INSPECTOR}.v3.TlsInspector")]


def _secret(folder: Path, name: str) -> dict[str, Any]:
    path = str(_path(folder, name))
    return {"name": name, "sds_config": {"path_config_source": {"path": path}, "resource_api_version": "V3"}}


def _write(folder: Path, name: str, content: dict[str, Any]) -> None:
    secret = {"@type": f"type.googleapis.com/envoy.{_TLS}.Secret", "name": name, **content}
    _path(folder, name).write_text(json.dumps({"resources": [secret]}))


def _path(folder: Path, name: str) -> Path:
    return folder / f"{name}.json"


def _file(path: str) -> dict[str, str]:
    return {"filename": str(Path(path).absolute())}


def _watched(path: str) -> dict[str, dict[str, str]]:
    return {"watched_directory": {"path": str(Path(path).absolute().parent)}}


def _extension(name: str, message: str, **fields: Any) -> dict[str, Any]:
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/envoy.{message}", **fields}}
