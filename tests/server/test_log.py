"""The log: one format for us and for libraries."""

import io
import json
import logging
import warnings
from collections.abc import Iterator
from typing import Any

import pytest

from rookery.server.log import configure_log, get_logger


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _restore_logging() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers, root.level
    yield
    root.handlers = handlers
    root.setLevel(level)
    logging.captureWarnings(False)


def lines_of(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_event_is_one_json_line_with_its_fields() -> None:
    stream = io.StringIO()
    configure_log(stream=stream)
    get_logger("rookery.server.x").info("client_seen", peer="1.2.3.4:5", client_id="ü")
    (line,) = lines_of(stream)
    assert line.pop("ts").endswith("Z")
    assert line == {
        "event": "client_seen",
        "peer": "1.2.3.4:5",
        "client_id": "ü",
        "level": "info",
        "logger": "rookery.server.x",
    }


def test_client_cannot_forge_a_line() -> None:
    stream = io.StringIO()
    configure_log(stream=stream)
    get_logger("x").info("client_seen", client_id='a\n{"event": "forged"}')
    assert [line["event"] for line in lines_of(stream)] == ["client_seen"]


def test_error_carries_its_traceback_in_the_same_line() -> None:
    stream = io.StringIO()
    configure_log(stream=stream)
    try:
        raise ValueError("broken")
    except ValueError:
        get_logger("x").exception("thing_failed")
    (line,) = lines_of(stream)
    assert line["level"] == "error"
    assert "ValueError: broken" in line["exception"]


def test_library_takes_the_same_way_out() -> None:
    stream = io.StringIO()
    configure_log(stream=stream)
    logging.getLogger("hypercorn.error").warning("Running on %s", "http://x")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    first, second = lines_of(stream)
    assert (first["event"], first["message"], first["logger"]) == (
        "library_message",
        "Running on http://x",
        "hypercorn.error",
    )
    assert "DeprecationWarning: old" in second["message"]


def test_level_holds_back_what_is_below_it() -> None:
    stream = io.StringIO()
    configure_log("warning", stream=stream)
    logger = get_logger("x")
    logger.info("quiet")
    logger.warning("loud")
    assert [line["event"] for line in lines_of(stream)] == ["loud"]


def test_terminal_gets_text_for_people_unless_json_is_asked_for() -> None:
    text, lines = Terminal(), Terminal()
    configure_log(stream=text)
    get_logger("x").info("client_seen", peer="p")
    configure_log(format="json", stream=lines)
    get_logger("x").info("client_seen", peer="p")
    assert "client_seen" in text.getvalue()
    assert not text.getvalue().startswith("{")
    assert lines_of(lines)[0]["peer"] == "p"


def test_logger_without_configured_log_prints_nothing_on_stdout(capsys: pytest.CaptureFixture[str]) -> None:
    get_logger("rookery.embedded").warning("client_seen")
    assert capsys.readouterr().out == ""
