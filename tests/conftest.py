"""Fixtures for all tests: the broker as a process, and names that no other test uses."""

import secrets
from collections.abc import Callable, Generator, Iterator
from contextlib import ExitStack

import pytest

pytest.register_assert_rewrite("support")

from support.process import BrokerProcess, start_broker  # noqa: E402 - after its asserts are made to explain themselves


@pytest.fixture(scope="session")
def session_broker() -> Iterator[BrokerProcess]:
    """The one broker of the whole run; ask for shared_broker instead."""
    with start_broker() as broker:
        yield broker


@pytest.fixture
def shared_broker(session_broker: BrokerProcess) -> BrokerProcess:
    """A broker that other tests use, too: cheap. Take client ids and topics from `unique`, subscribe to no more."""
    assert session_broker.process.is_running, f"an earlier test has ended the shared broker: {session_broker.process}"
    return session_broker


@pytest.fixture
def start_broker_process() -> Iterator[Callable[..., BrokerProcess]]:
    """Starts brokers of this test's own, with further options of `rookery serve`; they are stopped after the test."""
    with ExitStack() as stack:
        yield lambda *arguments: stack.enter_context(start_broker(*arguments))


@pytest.fixture
def broker_process(start_broker_process: Callable[..., BrokerProcess]) -> BrokerProcess:
    """A broker of this test's own at its default settings: for tests that stop it, kill it or count all that it has."""
    return start_broker_process()


@pytest.fixture
def unique() -> str:
    """A word that no other test uses, for client ids and first topic levels; 8 characters, 3.1 allows 23."""
    return secrets.token_hex(4)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show what the brokers of a failed test have written."""
    report = yield
    if report.failed:
        fixtures = getattr(item, "funcargs", {}).values()
        for broker in {value for value in fixtures if isinstance(value, BrokerProcess)}:
            report.sections.append(("broker", str(broker.process)[-20_000:]))
    return report
