"""HOST:PORT."""

import pytest

from rookery.server.address import Address


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("127.0.0.1:1883", Address("127.0.0.1", 1883)),
        ("localhost:0", Address("localhost", 0)),
        ("[::1]:65535", Address("::1", 65535)),
        (" 0.0.0.0:1 ", Address("0.0.0.0", 1)),
    ],
)
def test_text_names_an_address_and_the_address_that_text(text: str, address: Address) -> None:
    assert Address.parse(text) == address
    assert str(address) == text.strip()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected HOST:PORT, got ''"),
        ("1883", "expected HOST:PORT, got '1883'"),
        ("localhost", "expected HOST:PORT, got 'localhost'"),
        ("localhost:", "expected HOST:PORT"),
        ("localhost:mqtt", "expected HOST:PORT"),
        ("localhost:-1", "expected HOST:PORT"),
        ("localhost:²", "expected HOST:PORT"),
        ("localhost:65536", "the port of 'localhost:65536' is out of range; valid is 0 to 65535"),
        ("::1:1883", r"an IPv6 address stands in brackets, as in \[::1\]:1883; got '::1:1883'"),
        (":1883", r"':1883' names no host; 0.0.0.0:1883 or \[::\]:1883 stands for every address"),
        ("[]:1883", "names no host"),
        ("tcp://localhost:1883", "an IPv6 address stands in brackets"),
        ("a b:1883", "names no host"),
    ],
)
def test_other_text_is_refused_with_what_was_expected(text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Address.parse(text)


@pytest.mark.parametrize("host", ["127.0.0.1", "127.9.9.9", "::1", "localhost", "LOCALHOST"])
def test_loopback_is_known(host: str) -> None:
    assert Address(host, 1883).is_loopback


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.168.0.1", "fe80::1%eth0", "localhost.example.com", "broker"])
def test_everything_else_counts_as_reachable_from_outside(host: str) -> None:
    assert not Address(host, 1883).is_loopback
