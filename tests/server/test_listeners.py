"""Listening sockets."""

import socket

import pytest

from rookery.server.address import Address
from rookery.server.listeners import AddressInUse, ListenError, address_of, open_listener


def test_port_0_takes_a_free_one_and_accepts_connections() -> None:
    with open_listener(Address("127.0.0.1", 0), 5) as listener:
        address = address_of(listener)
        assert address.port != 0
        assert not listener.getblocking()
        with socket.create_connection((address.host, address.port), timeout=5):
            pass


@pytest.mark.skipif(not socket.has_ipv6, reason="the machine has no IPv6")
def test_ipv6_address_is_listened_on_and_printed_in_brackets() -> None:
    with open_listener(Address("::1", 0), 5) as listener:
        address = address_of(listener)
        assert str(address) == f"[::1]:{address.port}"
        with socket.create_connection(("::1", address.port), timeout=5):
            pass


@pytest.mark.skipif(not socket.has_ipv6, reason="the machine has no IPv6")
def test_any_ipv6_address_serves_ipv4_too() -> None:
    with (
        open_listener(Address("::", 0), 5) as listener,
        socket.create_connection(("127.0.0.1", address_of(listener).port), timeout=5),
    ):
        pass


def test_name_is_resolved() -> None:
    with open_listener(Address("localhost", 0), 5) as listener:
        assert address_of(listener).is_loopback


def test_port_in_use_is_said_in_one_line() -> None:
    with open_listener(Address("127.0.0.1", 0), 5) as listener:
        address = address_of(listener)
        with pytest.raises(AddressInUse, match=f"^cannot listen on {address}: the port is in use$"):
            open_listener(address, 5)


@pytest.mark.parametrize("host", ["no-such-host.invalid", "x" * 70, "192.0.2.1"])
def test_address_that_is_not_ours_is_said_in_one_line(host: str) -> None:
    with pytest.raises(ListenError, match=f"^cannot listen on {host}:0: .+$") as raised:
        open_listener(Address(host, 0), 5)
    assert not isinstance(raised.value, AddressInUse)
