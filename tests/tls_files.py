"""Certificates for tests, as files that can be renewed. Names: what a member of the mesh shows is `infermesh`."""

from pathlib import Path

import trustme

MEMBER = "infermesh"


class Authority:
    """An authority that writes certificates into a folder."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._ca = trustme.CA()
        self.ca = folder / "ca.crt"
        _replace(self.ca, self._ca.cert_pem.bytes())

    def issue(self, name: str = "tls", *identities: str) -> dict[str, str]:
        """Writes a certificate and its key, in the place of those before; returns settings that name the files."""
        leaf = self._ca.issue_cert(*(identities or (MEMBER,)))
        cert, key = self._folder / f"{name}.crt", self._folder / f"{name}.key"
        _replace(key, leaf.private_key_pem.bytes())
        _replace(cert, b"".join(part.bytes() for part in leaf.cert_chain_pems))
        return {"cert": str(cert), "key": str(key), "ca": str(self.ca)}

    def become(self, other: "Authority") -> None:
        """Puts another's certificate in the place of this one's, which nobody trusts any more then."""
        self._ca = other._ca
        _replace(self.ca, other._ca.cert_pem.bytes())


def _replace(path: Path, content: bytes) -> None:
    partial = path.with_name(f"{path.name}.partial")
    partial.write_bytes(content)
    partial.replace(path)
