"""TLS of the public port: what is refused at start-up, and what Envoy is told."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from infermesh.errors import ConfigError
from infermesh.gateway import envoy, front_tls
from infermesh.gateway.config import FrontTls, GatewayConfig
from tests.tls_files import Authority


@pytest.fixture
def tls(tmp_path):
    files = Authority(tmp_path / "certs").issue("front", "localhost")
    return FrontTls(cert=files["cert"], key=files["key"])


def listener(tls, folder):
    tree = envoy.bootstrap(GatewayConfig(front_tls=tls), folder / "admin.sock")
    return tree["static_resources"]["listeners"][0]


class TestRefused:
    @pytest.mark.parametrize(
        ("change", "text"),
        [
            ({"key": ""}, "front_tls.key: expected a file, as front_tls.cert is set"),
            ({"cert": ""}, "front_tls.cert: expected a file"),
            ({"cert": "", "key": "", "client_ca": "/some"}, "front_tls.cert: expected a file"),
            ({"cert": "/none"}, "front_tls.cert: can't read /none: No such file"),
            ({"client_ca": "/none"}, "front_tls.client_ca: can't read /none: No such file"),
            ({"client_ca": __file__}, "front_tls.client_ca: expected certificates in PEM"),
            ({"key": __file__}, "front_tls.key: expected the unencrypted PEM key"),
        ],
    )
    def test_with_the_name_of_the_setting(self, tls, change, text):
        with pytest.raises(ConfigError) as raised:
            front_tls.check(replace(tls, **change))
        assert raised.value.message.startswith(text)

    def test_nothing_and_all_are_good(self, tls, tmp_path):
        front_tls.check(FrontTls())
        front_tls.check(tls)
        front_tls.check(replace(tls, client_ca=str(Authority(tmp_path).ca)))


def test_without_a_certificate_nothing_changes(tmp_path):
    found = listener(FrontTls(), tmp_path)
    assert "transport_socket" not in found["filter_chains"][0]
    assert "http_inspector" in found["listener_filters"][0]["name"]
    front_tls.write_secrets(FrontTls(), tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_envoy_reads_the_files_itself_and_watches_their_folder(tls, tmp_path):
    context = listener(tls, tmp_path)["filter_chains"][0]["transport_socket"]["typed_config"]
    assert "require_client_certificate" not in context
    assert context["common_tls_context"]["alpn_protocols"] == ["h2", "http/1.1"]
    front_tls.write_secrets(tls, tmp_path)
    (config,) = context["common_tls_context"]["tls_certificate_sds_secret_configs"]
    written = Path(config["sds_config"]["path_config_source"]["path"]).read_text()
    (secret,) = json.loads(written)["resources"]
    assert secret["name"] == config["name"]
    assert secret["tls_certificate"]["private_key"] == {"filename": tls.key}
    assert secret["tls_certificate"]["watched_directory"] == {"path": str(Path(tls.cert).parent)}
    assert "PRIVATE KEY" not in written


def test_clients_may_have_to_show_a_certificate(tls, tmp_path):
    tls = replace(tls, client_ca=tls.cert)
    context = listener(tls, tmp_path)["filter_chains"][0]["transport_socket"]["typed_config"]
    assert context["require_client_certificate"] is True
    front_tls.write_secrets(tls, tmp_path)
    trusted = context["common_tls_context"]["validation_context_sds_secret_config"]
    (secret,) = json.loads(Path(trusted["sds_config"]["path_config_source"]["path"]).read_text())["resources"]
    assert secret["validation_context"]["trusted_ca"] == {"filename": tls.client_ca}
