"""Mutual TLS between members of the mesh: what is refused at start-up, who gets in, how certificates are renewed."""

import asyncio
import logging
import shutil
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from infermesh.errors import ConfigError
from infermesh.mesh import server
from infermesh.mesh.channel import connect
from infermesh.mesh.config import ProcessConfig, TlsConfig, load
from infermesh.mesh.process import Process
from infermesh.mesh.tls import Certificates, mutual
from tests.tls_files import Authority


class Time:
    """A clock that the test turns on."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def authority(tmp_path: Path) -> Authority:
    return Authority(tmp_path)


@pytest.fixture
def config(authority: Authority) -> TlsConfig:
    return TlsConfig(**authority.issue())


def test_without_files_the_mesh_speaks_plaintext() -> None:
    assert mutual(TlsConfig()) is None


@pytest.mark.parametrize("key", ["cert", "key", "ca"])
class TestRefused:
    def refusal(self, config: TlsConfig) -> str:
        with pytest.raises(ConfigError) as raised:
            Process("worker", ProcessConfig(tls=config))
        return raised.value.message

    def test_a_file_that_is_not_named(self, config: TlsConfig, key: str) -> None:
        assert self.refusal(replace(config, **{key: ""})).startswith(f"tls.{key}: expected a file")

    def test_a_file_that_is_not_there(self, config: TlsConfig, key: str) -> None:
        text = self.refusal(replace(config, **{key: "/no/such/file"}))
        assert text == f"tls.{key}: can't read /no/such/file: No such file or directory"

    @pytest.mark.parametrize("content", [b"", b"\xff nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n"])
    def test_a_file_that_holds_something_else(self, config: TlsConfig, key: str, content: bytes) -> None:
        Path(getattr(config, key)).write_bytes(content)
        text = self.refusal(config)
        assert text.startswith(f"tls.{key}: expected")
        assert getattr(config, key) in text
        assert "\n" not in text


def test_a_key_of_another_certificate_is_refused(authority: Authority, config: TlsConfig) -> None:
    with pytest.raises(ConfigError, match=r"tls\.key: expected the unencrypted PEM key of the certificate"):
        mutual(replace(config, key=authority.issue("other")["key"]))


def test_settings_come_from_flags_and_environment(config: TlsConfig) -> None:
    flags = ["--tls-cert", config.cert, "--tls-key", config.key]
    found = load(ProcessConfig, flags, {"INFERMESH_WORKER_TLS_CA": config.ca}, room="worker")
    assert found.tls == config


def test_the_key_is_in_no_text(config: TlsConfig) -> None:
    certificates = Certificates(config)
    assert "PRIVATE KEY" in (certificates.latest().key or b"").decode()
    assert "PRIVATE KEY" not in repr(certificates.latest()) + repr(certificates) + repr(config)


class TestRenewal:
    def test_a_renewed_certificate_is_taken_at_the_next_look(self, authority: Authority, config: TlsConfig) -> None:
        time = Time()
        certificates = Certificates(config, clock=time)
        before = certificates.latest()
        authority.issue()
        assert certificates.latest() is before
        time.now = 1.0
        after = certificates.latest()
        assert after.cert == Path(config.cert).read_bytes() != before.cert
        time.now = 2.0
        assert certificates.latest() is after

    def test_half_a_renewal_waits_for_the_other_half(
        self, authority: Authority, config: TlsConfig, caplog: pytest.LogCaptureFixture
    ) -> None:
        time = Time()
        certificates = Certificates(config, clock=time)
        before, other = certificates.latest(), authority.issue("other")
        Path(config.cert).write_bytes(Path(other["cert"]).read_bytes())
        for time.now in (1.0, 2.0, 3.0):
            assert certificates.latest() is before
        assert [record.levelno for record in caplog.records] == [logging.WARNING]
        Path(config.key).write_bytes(Path(other["key"]).read_bytes())
        time.now = 4.0
        assert certificates.latest().key == Path(other["key"]).read_bytes()

    def test_files_that_vanish_leave_what_they_said(self, config: TlsConfig) -> None:
        time = Time()
        certificates = Certificates(config, clock=time)
        before = certificates.latest()
        Path(config.key).unlink()
        time.now = 1.0
        assert certificates.latest() is before


class Peer:
    """A server of the mesh that answers what it was asked, and keeps a stream open until it is told."""

    def __init__(self, config: TlsConfig, time: Time) -> None:
        self.server = server.create_server()
        self._certificates = Certificates(config, clock=time)
        handlers = {
            "echo": grpc.unary_unary_rpc_method_handler(self._echo),
            "stream": grpc.stream_stream_rpc_method_handler(self._stream),
        }
        self.server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("t.S", handlers),))

    async def bind(self) -> str:
        return await server.bind(self.server, "127.0.0.1:0", self._certificates)

    async def _echo(self, request: bytes, context: Any) -> bytes:
        return request

    async def _stream(self, requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        async for request in requests:
            yield request


async def echo(address: str, certificates: Certificates | None) -> bytes:
    async with connect(address, certificates) as channel:
        return bytes(await channel.unary_unary("/t.S/echo")(b"x", timeout=5))


async def refused(address: str, certificates: Certificates | None) -> bool:
    try:
        await echo(address, certificates)
    except grpc.aio.AioRpcError as error:
        return error.code() is grpc.StatusCode.UNAVAILABLE
    return False


async def test_members_reach_each_other_by_any_address_and_others_do_not(
    authority: Authority, config: TlsConfig, tmp_path: Path
) -> None:
    peer = Peer(config, Time())
    address = await peer.bind()
    stranger = TlsConfig(**{**Authority(tmp_path / "foreign").issue(), "ca": config.ca})
    nameless = TlsConfig(ca=config.ca)
    assert await echo(address, Certificates(config)) == b"x"
    assert await refused(address, Certificates(stranger))  # of another authority
    assert await refused(address, Certificates(nameless))  # shows nothing
    assert await refused(address, None)  # speaks plaintext
    assert await refused(address, Certificates(replace(config, server_name="another")))
    await peer.server.stop(None)


async def test_everything_is_renewed_under_calls_that_go_on(
    authority: Authority, config: TlsConfig, tmp_path: Path
) -> None:
    time = Time()
    peer = Peer(config, time)
    address = await peer.bind()
    past = replace(config, cert=str(tmp_path / "past.crt"), key=str(tmp_path / "past.key"))
    shutil.copy(config.cert, past.cert)
    shutil.copy(config.key, past.key)
    async with connect(address, Certificates(config, clock=time)) as channel:
        method = channel.unary_unary("/t.S/echo")
        stream = channel.stream_stream("/t.S/stream")()
        await stream.write(b"before")
        assert await stream.read() == b"before"
        authority.become(Authority(tmp_path / "next"))
        authority.issue()
        time.now = 1.0
        assert await method(b"x", timeout=5) == b"x"
        await stream.write(b"after")
        assert await stream.read() == b"after"
        await stream.done_writing()
        assert await stream.read() is grpc.aio.EOF
        assert await method(b"y", timeout=5) == b"y"
    assert await refused(address, Certificates(past))  # what was good before is not any more
    await peer.server.stop(None)


async def test_a_channel_is_a_channel(config: TlsConfig) -> None:
    peer = Peer(config, Time())
    address = await peer.bind()
    channel = connect(address, Certificates(config))
    assert channel.get_state(try_to_connect=True) is grpc.ChannelConnectivity.IDLE
    async with asyncio.timeout(5):
        await channel.channel_ready()
    assert channel.get_state() is grpc.ChannelConnectivity.READY
    assert [part async for part in channel.stream_stream("/t.S/stream")(iter([b"a", b"b"]))] == [b"a", b"b"]
    await channel.close()
    with pytest.raises(grpc.aio.UsageError):
        await channel.unary_unary("/t.S/echo")(b"x")
    await peer.server.stop(None)
