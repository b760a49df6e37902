"""How Envoy is configured, asked and told; the line between supervisor and app."""

import asyncio
import json
import os
import sys
import tempfile
from itertools import pairwise
from pathlib import Path

import pytest

from infermesh.errors import ConfigError
from infermesh.gateway import control, envoy, farewell, protection
from infermesh.gateway.admin import Admin
from infermesh.gateway.admission import Limits
from infermesh.gateway.config import ClientLimits, GatewayConfig
from infermesh.mesh.config import LogConfig, ProcessConfig, load
from infermesh.mesh.health import Health


def config(**more) -> GatewayConfig:
    return GatewayConfig(scheduler="127.0.0.1:1", registry="127.0.0.1:2", **more)


@pytest.fixture
def folder():
    with tempfile.TemporaryDirectory(prefix="im-") as path:  # a socket's path must be short: not pytest's own
        yield Path(path)


class TestConfig:
    @pytest.mark.parametrize(
        ("flags", "key"),
        [
            (["--listen", "nowhere"], "listen"),
            (["--concurrency", "0"], "concurrency"),
            (["--max-body-bytes", "many"], "max_body_bytes"),
            (["--max-memory-bytes", "1000000000"], "max_memory_bytes: expected at least"),
            (["--clients-stall-timeout", "0"], "clients.stall_timeout"),
            (["--clients-max-ratio", "1"], "clients.max_ratio"),
            (["--clients-min-rate", "-1"], "clients.min_rate"),
            (["--clients-max-streams", "none"], "clients.max_streams"),
            (["--scheduler", "host"], "scheduler"),
            (["--nonsense", "1"], "--nonsense"),
            (["--log-level", "loud"], "log.level"),
        ],
    )
    def test_a_bad_setting_is_named(self, flags, key):
        with pytest.raises(ConfigError, match=key):
            load(GatewayConfig, flags, {}, room="gateway")

    def test_from_flags_and_environment(self):
        found = load(
            GatewayConfig, ["--concurrency", "2"], {"INFERMESH_GATEWAY_FRONTENDS": "health,proxy"}, room="gateway"
        )
        assert (found.concurrency, found.frontends) == (2, ("health", "proxy"))


class TestBootstrap:
    def tree(self, **more):
        return envoy.bootstrap(config(**more), Path("/tmp/x/admin.sock"))

    def manager(self, **more):
        (listener,) = self.tree(**more)["static_resources"]["listeners"]
        return listener["filter_chains"][0]["filters"][0]["typed_config"]

    def test_listens_where_it_shall_and_shares_the_port_with_nobody(self):
        (listener,) = self.tree(listen="127.0.0.1:4711")["static_resources"]["listeners"]
        assert listener["address"]["socket_address"] == {"address": "127.0.0.1", "port_value": 4711}
        assert listener["enable_reuse_port"] is False
        assert listener["name"] == envoy.LISTENER

    def test_speaks_both_http_versions_and_leaves_bodies_to_the_app(self):
        manager = self.manager()
        assert manager["codec_type"] == "AUTO"
        assert manager["request_timeout"] == "0s"
        assert "access_log" not in manager

    def test_what_clients_may_take_is_set(self):
        limits = ClientLimits(max_connections=7, max_streams=5, stall_timeout=1.5, ping_interval=3)
        tree, manager = self.tree(clients=limits, max_memory_bytes=1 << 31), self.manager(clients=limits)
        assert (manager["stream_idle_timeout"], manager["stream_flush_timeout"]) == ("1.500s", "1.500s")
        assert manager["http2_protocol_options"]["max_concurrent_streams"] == 5
        assert manager["http2_protocol_options"]["connection_keepalive"]["interval"] == "3.000s"
        connections, heap = (m["typed_config"] for m in tree["overload_manager"]["resource_monitors"][:2])
        assert connections["max_active_downstream_connections"] == 7
        assert heap["max_heap_size_bytes"] < 1 << 31

    def test_what_may_be_held_fits_into_the_memory(self):
        limits = protection.requests(config(max_memory_bytes=1 << 30, max_body_bytes=1 << 20))
        assert limits.message == 1 << 20
        assert limits.message < 4 * limits.held < 1 << 30

    def test_no_more_waits_than_the_memory_has_room_for(self):
        small = config(max_memory_bytes=1 << 30, max_body_bytes=1 << 20)
        assert small.dispatch_limits.max_waiting_bytes == small.held_bytes
        few = config(limits=Limits(max_waiting_bytes=1000, max_queue=7))
        assert few.dispatch_limits == Limits(max_waiting_bytes=1000, max_queue=7)

    def test_runs_the_app(self):
        (filter_,) = self.manager()["http_filters"]
        settings = json.loads(filter_["typed_config"]["filter_config"]["value"])
        assert (settings["app"], settings["lifespan"]) == (envoy.APP, True)

    def test_the_admin_interface_is_private(self):
        assert self.tree()["admin"] == {"address": {"pipe": {"path": "/tmp/x/admin.sock", "mode": 0o600}}}

    def test_idle_connections_can_be_told_to_go(self):
        manager = self.tree()["overload_manager"]
        monitors = {monitor["name"]: monitor["typed_config"] for monitor in manager["resource_monitors"]}
        (action,) = [one for one in manager["actions"] if one["name"].endswith("reduce_timeouts")]
        (trigger,) = action["triggers"]
        assert monitors[trigger["name"]]["filename"] == f"/tmp/x/{farewell.FILE}"
        (factor,) = action["typed_config"]["timer_scale_factors"]
        assert factor["timer"] == "HTTP_DOWNSTREAM_CONNECTION_IDLE"

    def test_connections_may_grow_old_unless_they_shall_not(self):
        options = self.manager()["common_http_protocol_options"]
        assert "max_connection_duration" not in options
        manager = self.manager(clients=ClientLimits(max_connection_age=300))
        options = manager["common_http_protocol_options"]
        assert options["max_connection_duration"] == "300.000s"
        assert options["max_connection_duration_jitter"]["value"] > 0
        assert manager["http1_safe_max_connection_duration"] is True

    def test_is_json(self):
        json.dumps(self.tree())

    @pytest.mark.parametrize(
        ("listen", "expected"),
        [("127.0.0.1:0", ("127.0.0.1", 0)), ("[::1]:80", ("::1", 80)), ("0.0.0.0:8000", ("0.0.0.0", 8000))],
    )
    def test_addresses(self, listen, expected):
        assert envoy.split_listen(listen) == expected

    def test_a_name_is_looked_up(self):
        assert envoy.split_listen("localhost:80")[0] in ("127.0.0.1", "::1")

    @pytest.mark.parametrize("listen", ["no.such.host.invalid:80", "127.0.0.1:port", "127.0.0.1:99999999999999999999"])
    def test_an_address_that_is_none(self, listen):
        with pytest.raises(ConfigError, match="listen"):
            envoy.split_listen(listen)


class TestCommand:
    def test_has_what_the_drain_needs(self):
        command = envoy.command(config(concurrency=3), Path("/b.json"))
        assert os.access(command[0], os.X_OK)
        pairs = dict(pairwise(command))
        assert pairs["--concurrency"] == "3"
        assert pairs["--drain-strategy"] == "immediate"
        assert pairs["--config-path"] == "/b.json"
        assert "--disable-hot-restart" in command

    @pytest.mark.parametrize("level", ["debug", "info", "warning", "error"])
    def test_every_log_level_has_a_counterpart(self, level):
        command = envoy.command(config(process=ProcessConfig(log=LogConfig(level=level))), Path("/b.json"))
        assert command[command.index("--log-level") + 1] in ("info", "warning", "error")

    def test_log_lines_are_json(self):
        line = envoy._LOG_FORMAT.replace("%j", "text").replace("%l", "info").replace("%n", "main")
        assert json.loads(line)["room"] == "gateway"

    def test_the_environment_leads_to_this_interpreter(self):
        found = envoy.environment({"A": "b", "LD_PRELOAD": "/mine.so"})
        assert found["A"] == "b"
        assert set(filter(None, sys.path)) <= set(found["PYTHONPATH"].split(os.pathsep))
        library, mine = found["LD_PRELOAD"].split(os.pathsep)
        assert (Path(library).exists(), "libpython" in library, mine) == (True, True, "/mine.so")

    def test_a_python_without_its_shared_library_says_how_to_get_one(self, monkeypatch):
        monkeypatch.setattr(envoy.find_libpython, "candidate_paths", lambda: ["/none/libpython3.11.so", "/usr/lib/x.a"])
        with pytest.raises(ConfigError, match="apt-get install libpython"):
            envoy.shared_libpython()


class FakeEnvoy:
    """Answers on a unix socket as Envoy's admin interface does."""

    def __init__(self, answers: dict[str, bytes]) -> None:
        self._answers = answers
        self.asked: list[str] = []

    async def serve(self, path: Path) -> asyncio.Server:
        return await asyncio.start_unix_server(self._handle, str(path))

    async def _handle(self, reader, writer):
        head = (await reader.readuntil(b"\r\n\r\n")).decode()
        verb, path = head.split(" ")[:2]
        self.asked.append(f"{verb} {path}")
        writer.write(self._answers.get(path, b"HTTP/1.1 404 Not Found\r\n\r\n"))
        writer.close()


def chunked(*parts: bytes) -> bytes:
    body = b"".join(b"%x\r\n%s\r\n" % (len(part), part) for part in (*parts, b""))
    return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + body


def plain(body: bytes) -> bytes:
    return b"HTTP/1.1 200 OK\r\ncontent-length: %d\r\n\r\n" % len(body) + body


def listeners(address: str, port: int, name: str = envoy.LISTENER) -> bytes:
    found = {"name": name, "local_address": {"socket_address": {"address": address, "port_value": port}}}
    return json.dumps({"listener_statuses": [found]}).encode()


STATS = f"/stats?filter=^({envoy.ACTIVE_REQUESTS}|{envoy.ACTIVE_CONNECTIONS})$"


class TestAdmin:
    @pytest.mark.parametrize(
        ("answer", "address"),
        [
            (plain(listeners("127.0.0.1", 4711)), "127.0.0.1:4711"),
            (chunked(listeners("::1", 80)[:20], listeners("::1", 80)[20:]), "[::1]:80"),
            (plain(b"{}"), ""),
            (plain(listeners("127.0.0.1", 1, "other")), ""),
        ],
    )
    async def test_the_bound_address(self, folder, answer, address):
        async with await FakeEnvoy({"/listeners?format=json": answer}).serve(folder / "s"):
            assert await Admin(folder / "s").address() == address

    @pytest.mark.parametrize(
        ("text", "counts"),
        [
            ("", (0, 0)),
            (f"{envoy.ACTIVE_REQUESTS}: 7\n", (7, 0)),
            (f"{envoy.ACTIVE_CONNECTIONS}: 3\n{envoy.ACTIVE_REQUESTS}: 7\n", (7, 3)),
        ],
    )
    async def test_what_is_under_way(self, folder, text, counts):
        answer = chunked(text.encode()) if text else plain(b"")
        async with await FakeEnvoy({STATS: answer}).serve(folder / "s"):
            assert await Admin(folder / "s").active() == counts

    async def test_drain_and_quit_are_posts(self, folder):
        paths = ("/drain_listeners?graceful&skip_exit", "/drain_listeners", "/quitquitquit")
        fake = FakeEnvoy(dict.fromkeys(paths, plain(b"OK")))
        async with await fake.serve(folder / "s"):
            await Admin(folder / "s").drain()
            await Admin(folder / "s").quit()
        assert fake.asked == [f"POST {path}" for path in paths]

    async def test_a_refusal_is_an_error(self, folder):
        async with await FakeEnvoy({}).serve(folder / "s"):
            with pytest.raises(OSError, match="404"):
                await Admin(folder / "s").drain()

    async def test_nobody_there_is_an_error(self, folder):
        with pytest.raises(OSError, match="No such file"):
            await Admin(folder / "s").quit()


class TestControl:
    async def pair(self, folder, on=None):
        lost = asyncio.Event()
        supervisor = control.SupervisorEnd(folder / "c")
        await supervisor.open()
        app = control.AppEnd(folder / "c", on or {}, lost.set)
        await app.open()
        return supervisor, app, lost

    async def test_ready(self, folder):
        supervisor, app, _ = await self.pair(folder)
        app.say(control.READY)
        await supervisor.ready()
        await app.close()
        await supervisor.close()

    async def test_serving_comes_later_than_ready(self, folder):
        supervisor, app, _ = await self.pair(folder)
        app.say(control.READY)
        await supervisor.ready()
        serving = asyncio.create_task(supervisor.serving())
        app.say("a word of a newer app")
        await asyncio.sleep(0.01)
        assert not serving.done()
        app.say(control.SERVING)
        await serving
        await app.close()
        await supervisor.close()

    async def test_an_app_whose_loop_turns_answers(self, folder):
        heard = {control.DRAIN: asyncio.Event().set}
        supervisor, app, _ = await self.pair(folder, heard)
        app.say(control.READY)
        await supervisor.ready()
        assert not await supervisor.answers(timeout=0.01)
        heard[control.PING] = lambda: app.say(control.PONG)
        assert await supervisor.answers(timeout=5)
        await app.close()
        await supervisor.close()

    async def test_failed_says_why_in_one_line(self, folder):
        supervisor, app, _ = await self.pair(folder)
        app.say(f"{control.FAILED} front end: expected\none of a, b")
        with pytest.raises(ConfigError, match="did not start: front end: expected one of a, b"):
            await supervisor.ready()
        await app.close()
        await supervisor.close()

    async def test_words_reach_the_app(self, folder):
        heard = asyncio.Event()
        supervisor, app, _ = await self.pair(folder, {control.DRAIN: heard.set})
        app.say(control.READY)
        await supervisor.ready()
        supervisor.say("a word of a newer supervisor")
        supervisor.say(control.DRAIN)
        await heard.wait()
        await app.close()
        await supervisor.close()

    async def test_the_app_notices_that_the_supervisor_is_gone(self, folder):
        supervisor, app, lost = await self.pair(folder)
        app.say(control.READY)
        await supervisor.ready()
        await supervisor.close()
        await lost.wait()
        await app.close()

    async def test_hanging_up_oneself_is_not_losing_the_other(self, folder):
        supervisor, app, lost = await self.pair(folder)
        await app.close()
        assert not lost.is_set()
        await supervisor.close()

    async def test_a_path_too_long_for_a_socket_says_what_to_do(self, folder):
        with pytest.raises(ConfigError, match="set TMPDIR"):
            await control.SupervisorEnd(folder / ("x" * 200)).open()


async def test_health_stays_down_once_it_is_stopped():
    health = Health()
    health.set("", True)
    assert health.serving()
    health.stop()
    health.set("", True)
    health.set("a.B", True)
    assert not health.serving()
    assert not health.serving("a.B")
