"""The log: events with fields, on stderr; one JSON object a line, or coloured text on a terminal.

structlog over stdlib logging: the records of libraries take the same way out, so that a log has one format. An event
is a fixed snake_case name (`listener_bound`), what varies goes into fields. Payloads and secrets are never logged.

Writing blocks the control plane while stderr is a full pipe; shards never log and do not notice.
"""

import logging
import sys
from typing import Literal, TextIO

import structlog
from structlog.types import EventDict, Processor, WrappedLogger

Level = Literal["debug", "info", "warning", "error"]
Format = Literal["auto", "console", "json"]
Logger = structlog.stdlib.BoundLogger

LIBRARY_EVENT = "library_message"  # what a library says in prose; its text is the field `message`


def get_logger(name: str) -> Logger:
    """The logger of a module.

    It depends on nothing global: where another program embeds the broker, that program's handlers get the records.
    """
    logger: Logger = structlog.wrap_logger(
        logging.getLogger(name),
        processors=[
            structlog.stdlib.filter_by_level,
            *_common_processors(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        cache_logger_on_first_use=True,
    )
    return logger


def configure_log(level: Level = "info", format: Format = "auto", stream: TextIO = sys.stderr) -> None:  # noqa: A002
    """Send everything of at least level to stream. Called once, by the process; a library never does."""
    as_console = format == "console" or (format == "auto" and stream.isatty())
    handler = logging.StreamHandler(stream)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*_common_processors(), _name_library_event],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *_render(as_console, stream)],
        )
    )
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level.upper())
    logging.captureWarnings(True)


def _common_processors() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True, key="ts"),
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.processors.StackInfoRenderer(),
    ]


def _render(as_console: bool, stream: TextIO) -> list[Processor]:
    if as_console:
        return [structlog.dev.ConsoleRenderer(colors=stream.isatty(), timestamp_key="ts")]
    return [structlog.processors.format_exc_info, structlog.processors.JSONRenderer(ensure_ascii=False)]


def _name_library_event(logger: WrappedLogger, method_name: str, event_dict: EventDict) -> EventDict:
    event_dict["message"] = event_dict["event"]
    event_dict["event"] = LIBRARY_EVENT
    return event_dict
