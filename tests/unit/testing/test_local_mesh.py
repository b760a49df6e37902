"""How a local mesh starts, stops and guards its home, with stubs in place of the rooms."""

import json
import signal
import time

import pytest

from infermesh.testing.child import ServiceFailed
from infermesh.testing.local_mesh import HomeInUse


def test_services_start_in_order_and_know_each_other(stubs):
    with stubs.mesh(workers=3) as mesh:
        started = stubs.notes("start")
        assert started[:2] == ["registry", "scheduler"]
        assert sorted(started[2:]) == ["gateway", "worker-1", "worker-2", "worker-3"]
        registry, scheduler = mesh.address("registry"), mesh.address("scheduler")
        assert stubs.arguments("scheduler")["--registry"] == registry
        for name in ("gateway", "worker-1"):
            assert stubs.arguments(name)["--registry"] == registry
            assert stubs.arguments(name)["--scheduler"] == scheduler
        assert stubs.arguments("worker-2")["--id"] == "worker-2"
        assert stubs.arguments("registry")["--home"] == str(mesh.home)


def test_services_stop_front_door_first_and_memory_last(stubs):
    with stubs.mesh() as mesh:
        pass
    ended = stubs.notes("end")
    assert ended[0] == "gateway"
    assert sorted(ended[1:3]) == ["worker-1", "worker-2"]
    assert ended[3:] == ["scheduler", "registry"]
    assert {service.returncode for service in mesh.processes.values()} == {0}


def test_the_addresses_are_published_while_it_runs(stubs):
    with stubs.mesh(listen="127.0.0.1:4799") as mesh:
        published = json.loads((mesh.home / "run" / "mesh.json").read_text())
        assert published["gateway"] == mesh.gateway == "127.0.0.1:4799"
        assert published["services"]["registry"] == mesh.address("registry")
    assert not (mesh.home / "run" / "mesh.json").exists()


def test_a_service_that_fails_to_start_takes_the_others_down_and_is_named(stubs):
    mesh = stubs.mesh(broken="worker-2")
    with pytest.raises(ServiceFailed, match=r"(?s)worker-2 ended with 1 while starting.*broken by the test"):
        mesh.start()
    assert sorted(mesh.dead()) == sorted(mesh.processes)
    with stubs.mesh():
        pass


def test_a_caller_that_goes_away_while_it_starts_leaves_nothing(stubs):
    mesh = stubs.mesh()
    stages = mesh.starting()
    assert next(stages) == ["registry"]
    stages.close()
    assert mesh.dead() == ["registry"]


def test_a_second_mesh_on_the_same_home_is_refused(stubs):
    with stubs.mesh() as mesh:
        with pytest.raises(HomeInUse, match=r"already running on .* \(process \d+\)"):
            stubs.mesh().start()
        assert not mesh.dead()
        assert (mesh.home / "run" / "mesh.json").exists()


def test_a_restarted_service_listens_where_it_did(stubs):
    with stubs.mesh() as mesh:
        before, pid = mesh.address("scheduler"), mesh.processes["scheduler"].pid
        mesh.restart("scheduler")
        assert mesh.address("scheduler") == before
        assert mesh.processes["scheduler"].pid != pid
        assert stubs.arguments("scheduler")["--listen"] == before


def test_a_restarted_gateway_has_both_its_ports_again(stubs):
    with stubs.mesh() as mesh:
        before = mesh.gateway, mesh.grpc_port
        mesh.restart("gateway")
        given = stubs.arguments("gateway")
        assert (given["--listen"], given["--grpc-listen"]) == before


def test_kill_returns_when_the_service_is_gone(stubs):
    with stubs.mesh() as mesh:
        mesh.kill("worker-1")
        assert mesh.dead() == ["worker-1"]
        assert mesh.processes["worker-1"].returncode == -signal.SIGKILL
        mesh.revive("worker-1")
        mesh.processes["worker-1"].wait_ready(time.monotonic() + 20)
        assert mesh.dead() == []


def test_there_may_be_several_gateways(stubs):
    with stubs.mesh(gateways=3, listen="127.0.0.1:4799", grpc_listen="127.0.0.1:4798") as mesh:
        assert mesh.gateways == [mesh.address(name) for name in ("gateway", "gateway-2", "gateway-3")]
        assert mesh.gateway == mesh.gateways[0] == "127.0.0.1:4799"
        assert stubs.arguments("gateway-3")["--listen"] == "127.0.0.1:0"
        given = [stubs.arguments(name)["--grpc-listen"] for name in ("gateway", "gateway-2", "gateway-3")]
        assert given == ["127.0.0.1:4798", "127.0.0.1:0", "127.0.0.1:0"]
        mesh.stop("gateway-2")
        assert mesh.dead() == ["gateway-2"]
    assert set(stubs.notes("end")[:3]) == {"gateway", "gateway-2", "gateway-3"}


def test_flags_reach_a_room_and_a_single_service(stubs):
    with stubs.mesh(flags={"worker": ["--allow-python", "yes"], "worker-2": ["--weight", "2"]}):
        assert stubs.arguments("worker-1")["--allow-python"] == "yes"
        assert "--weight" not in stubs.arguments("worker-1")
        assert stubs.arguments("worker-2")["--weight"] == "2"


def test_settings_in_the_home_reach_their_room(stubs):
    home = stubs.folder / "home"
    home.mkdir()
    (home / "gateway.toml").write_text("")
    with stubs.mesh():
        assert stubs.arguments("gateway")["--config"] == str(home / "gateway.toml")
        assert "--config" not in stubs.arguments("worker-1")


def test_abandon_kills_everything_at_once(stubs):
    mesh = stubs.mesh()
    mesh.start()
    mesh.abandon()
    assert sorted(mesh.dead()) == sorted(mesh.processes)
    assert stubs.folder.joinpath("rooms", "notes").read_text().count("end") == 0
