"""Certificates of one end of a connection: PEM files, checked when they are read, and read anew when they are renewed.

Used by `server`, `channel` and whoever dials; errors name the setting, and nothing of a key is ever in a text.
"""

import logging
import os
import ssl
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final, Protocol

import grpc

from infermesh.errors import ConfigError

_LOOK: Final = 1.0  # seconds between two looks at the files
_Seen = tuple[tuple[int, int, int] | None, ...]


class Files(Protocol):
    """Where the files are; an empty path stands for none. A dataclass of settings."""

    @property
    def cert(self) -> str:
        """The certificate that this end shows, with what leads from it to the authority."""

    @property
    def key(self) -> str:
        """The certificate's key, unencrypted."""

    @property
    def ca(self) -> str:
        """The authorities that this end trusts."""

    @property
    def server_name(self) -> str:
        """The name that a server's certificate must carry; empty: the one that is dialled."""


@dataclass(frozen=True)
class Pem:
    """What the files say."""

    cert: bytes | None = None
    key: bytes | None = field(default=None, repr=False)
    ca: bytes | None = None


class Certificates:
    """The certificates that some files hold now. Safe to use from several threads; looks at the files, so it may block
    for as long as a local disk does."""

    def __init__(
        self, files: Files, group: str = "tls", *, ca: str = "ca", clock: Callable[[], float] = time.monotonic
    ) -> None:
        """`group` is what the settings of the files stand under, `ca` what that of the authorities is called there.

        Raises ConfigError naming the one that is bad.
        """
        self._files = files
        self._group = group
        self._names = {"cert": f"{group}.cert", "key": f"{group}.key", "ca": f"{group}.{ca}"}
        self._clock = clock
        self._lock = threading.Lock()
        self._seen = self._look()
        self._pem = self._load()
        self._next = clock() + _LOOK
        self._contexts: dict[bool, tuple[Pem, ssl.SSLContext]] = {}

    @property
    def server_name(self) -> str:
        """The name that a server's certificate must carry; empty: the one that is dialled."""
        return self._files.server_name

    def latest(self) -> Pem:
        """Returns what the files say, the same object until that changes; while they make no sense, what they said."""
        now = self._clock()
        if now >= self._next:
            with self._lock:
                self._next = now + _LOOK
                seen = self._look()
                if seen != self._seen:
                    self._seen = seen
                    self._take()
        return self._pem

    def context(self, *, server: bool) -> ssl.SSLContext:
        """Returns what connections that are not gRPC's own are made with now: by a client, or by a server, which asks
        for a certificate of its clients if it knows who must have signed it. For HTTP/2 only."""
        pem = self.latest()
        known = self._contexts.get(server)
        if known is not None and known[0] is pem:
            return known[1]
        try:
            made = self._context(pem, server)
        except OSError:  # the files were replaced meanwhile, one after the other: we look again
            if known is None:
                raise
            return known[1]
        self._contexts[server] = (pem, made)
        return made

    def _context(self, pem: Pem, server: bool) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if server else ssl.PROTOCOL_TLS_CLIENT)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        context.set_alpn_protocols(["h2"])
        if pem.ca is not None:
            context.load_verify_locations(cadata=pem.ca.decode("ascii"))
        if pem.cert is not None:
            context.load_cert_chain(self._files.cert, self._files.key)
        if not server or pem.ca is not None:
            context.verify_mode = ssl.CERT_REQUIRED
        return context

    def _take(self) -> None:
        # the SDK is in here, too: its users have logs of their own
        log = logging.getLogger(__name__)
        try:
            pem = self._load()
        except ConfigError as error:  # perhaps one of two files was replaced; the other will be, and we look again
            log.warning("certificates can't be used, the old ones stay: %s", error.message)
            return
        if pem != self._pem:
            self._pem = pem
            log.info("certificates renewed: %s", self._group)

    def _load(self) -> Pem:
        while True:
            pem = self._read()
            self._check(pem)
            if pem == self._read():  # else they were replaced meanwhile, and may not belong together
                return pem

    def _read(self) -> Pem:
        return Pem(*(self._bytes(key) for key in ("cert", "key", "ca")))

    def _bytes(self, key: str) -> bytes | None:
        path = getattr(self._files, key)
        if not path:
            return None
        try:
            with open(path, "rb") as file:
                return file.read()
        except OSError as error:
            raise ConfigError(f"{self._names[key]}: can't read {path}: {error.strerror}") from error

    def _check(self, pem: Pem) -> None:
        self._check_certificates("ca", pem.ca)
        if pem.cert is None and pem.key is None:
            return
        for given, missing in (("cert", "key"), ("key", "cert")):
            if getattr(pem, missing) is None:
                name, other = self._names[missing], self._names[given]
                raise ConfigError(f"{name}: expected a file, as {other} is set; the two belong together")
        self._check_certificates("cert", pem.cert)
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(
                self._files.cert,
                self._files.key,
                password=lambda: "",  # an encrypted one is refused, nobody asked
            )
        except OSError as error:  # ssl.SSLError is one
            raise ConfigError(
                f"{self._names['key']}: expected the unencrypted PEM key of the certificate {self._files.cert}, which "
                f"{self._files.key} is not"
            ) from error

    def _check_certificates(self, key: str, content: bytes | None) -> None:
        if content is None:
            return
        try:
            ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=content.decode("ascii"))
        except (ValueError, ssl.SSLError) as error:
            path = getattr(self._files, key)
            raise ConfigError(
                f"{self._names[key]}: expected certificates in PEM, which {path} does not hold"
            ) from error

    def _look(self) -> _Seen:
        return tuple(_stamp(path) for path in (self._files.cert, self._files.key, self._files.ca))


def _stamp(path: str) -> tuple[int, int, int] | None:
    try:
        found = os.stat(path)  # of what a link leads to: a mounted secret is renewed by turning one
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def mutual(files: Files, group: str = "tls") -> Certificates | None:
    """Returns the certificates of a member of the mesh, which shows one and demands one; None if no file is named.

    Raises ConfigError naming the setting if only some are named, can't be read, or don't belong together.
    """
    named = {key: bool(getattr(files, key)) for key in ("cert", "key", "ca")}
    if not any(named.values()):
        return None
    for key, given in named.items():
        if not given:
            raise ConfigError(f"{group}.{key}: expected a file: {group}.cert, {group}.key and {group}.ca go together")
    return Certificates(files, group)


def server_credentials(certificates: Certificates) -> grpc.ServerCredentials:
    """Returns credentials of a server that demands a certificate of its clients; new connections get the latest."""
    given = certificates.latest()

    def renewed() -> grpc.ServerCertificateConfiguration | None:
        nonlocal given
        latest = certificates.latest()
        if latest is given:
            return None
        given = latest
        return _configuration(latest)

    return grpc.dynamic_ssl_server_credentials(_configuration(given), renewed, require_client_authentication=True)


def _configuration(pem: Pem) -> grpc.ServerCertificateConfiguration:
    return grpc.ssl_server_certificate_configuration([(pem.key, pem.cert)], root_certificates=pem.ca)


def channel_credentials(pem: Pem) -> grpc.ChannelCredentials:
    """Returns credentials of a client."""
    return grpc.ssl_channel_credentials(pem.ca, pem.key, pem.cert)
