"""Certificates for the tests of TLS, and a broker with a TLS listener."""

import logging
from pathlib import Path

import pytest

from support.tls import Authority, Failures, Section


@pytest.fixture
def stranger(tmp_path: Path) -> Authority:
    """An authority that nobody knows."""
    return Authority(tmp_path, "stranger")


@pytest.fixture
def secure(certificate: str) -> Section:
    """A `[listeners.secure]` for localhost."""
    return {
        "kind": "tls",
        "bind": "127.0.0.1:0",
        "certificate_files": [certificate],
    }


@pytest.fixture
def failures(caplog: pytest.LogCaptureFixture) -> Failures:
    """What the log says of connections that did not get in."""
    caplog.set_level(logging.INFO)
    return Failures(caplog)
