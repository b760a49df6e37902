"""Ports of services that are away for a moment."""

import socket
import sys

import pytest

from infermesh.testing.ports import HeldPorts

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="ports can be held on Linux only")


@pytest.fixture
def ports():
    held = HeldPorts()
    yield held
    held.release()


def server(port=0):
    """What our servers do: allow the address to be used again, bind, listen."""
    made = socket.socket()
    made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    made.bind(("127.0.0.1", port))
    made.listen()
    return made


def test_a_held_port_is_given_to_who_names_it_and_to_nobody_else(ports):
    with server() as first:
        address = first.getsockname()
    ports.hold([f"127.0.0.1:{address[1]}"])
    with socket.socket() as other, pytest.raises(OSError, match="in use"):
        other.bind(address)  # without the option, as who looks for a port of his own
    with server(address[1]) as second, socket.create_connection(address), second.accept()[0]:
        pass


def test_nobody_answers_at_a_held_port(ports):
    with server() as first:
        address = first.getsockname()
    ports.hold([f"127.0.0.1:{address[1]}"])
    with socket.socket() as caller, pytest.raises(ConnectionRefusedError):
        caller.connect(address)


def test_what_cannot_be_held_is_left_alone(ports):
    with server() as busy:
        ports.hold([f"127.0.0.1:{busy.getsockname()[1]}", "127.0.0.1:no-number"])


def test_released_ports_are_free(ports):
    with server() as first:
        address = first.getsockname()
    ports.hold([f"127.0.0.1:{address[1]}"])
    ports.release()
    with socket.socket() as other:
        other.bind(address)
