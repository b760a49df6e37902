"""When a client speaks TLS, and what it refuses to begin with."""

from pathlib import Path

import pytest

from infermesh import errors
from infermesh.client import Client, Tls
from infermesh.client.tls import certificates
from tests.tls_files import Authority


def test_plaintext_unless_asked_for() -> None:
    assert certificates("host:80", False) is None
    assert certificates("http://host:80", False) is None
    for address, tls in (("https://host", False), ("grpcs://host:1", False), ("host:1", True), ("dns:///h:1", True)):
        assert certificates(address, tls) is not None


def test_the_files_are_what_counts(tmp_path: Path) -> None:
    files = Tls(**Authority(tmp_path).issue(), server_name="other")
    found = certificates("https://host", files)
    assert found is not None
    assert (found.server_name, found.latest().ca) == ("other", Path(files.ca).read_bytes())


def test_an_address_that_says_otherwise() -> None:
    with pytest.raises(errors.InvalidInput, match="address"):
        Client("http://host:80", tls=True)


@pytest.mark.parametrize(
    ("files", "key"),
    [(Tls(ca="/none"), "tls.ca"), (Tls(cert=__file__), "tls.key"), (Tls(key=__file__), "tls.cert")],
)
def test_files_that_can_not_be_used(files: Tls, key: str) -> None:
    with pytest.raises(errors.ConfigError, match=key):
        Client("host:443", tls=files)
