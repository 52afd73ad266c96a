"""What the tests of authenticators share."""

import pytest

from rookery.server.auth import penalties


@pytest.fixture(autouse=True)
def _nobody_is_slowed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each test fails to log in more often than a person would. That this is slowed is shown elsewhere."""
    monkeypatch.setattr(penalties, "FREE_FAILURES", 1000)
