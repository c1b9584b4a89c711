"""Logs by structlog on stderr: readable lines on a terminal, else JSON lines. Event names are stable."""

from __future__ import annotations

import logging
import sys
from collections.abc import MutableMapping
from contextlib import suppress
from typing import Any

import structlog

from ingest.observe.escape import escape_key
from ingest.redaction import redact


def configure(*, verbosity: int, warnings: tuple[str, ...] = ()) -> None:
    """`verbosity` is -1 (warnings only), 0 or 1 (debug)."""
    level = {-1: logging.WARNING, 0: logging.INFO}.get(verbosity, logging.DEBUG)
    on_terminal = sys.stderr.isatty()
    renderer: Any = (
        structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
        if on_terminal
        else structlog.processors.JSONRenderer(sort_keys=False)
    )
    stderr: Any = _Stderr()
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="%H:%M:%S" if on_terminal else "iso", utc=not on_terminal),
            _one_line,
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.WriteLoggerFactory(file=stderr),
        cache_logger_on_first_use=False,
    )
    libraries = logging.StreamHandler()
    libraries.setFormatter(_OneLine("%(levelname)s %(name)s: %(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[libraries], force=True)
    # Their debug logs carry signatures and tokens.
    for name in ("botocore", "aiobotocore", "aioboto3", "aiohttp", "urllib3", "stamina", "sqlalchemy", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.WARNING)
    for warning in warnings:
        log().warning("setting", message=warning)


class _Stderr:
    """Its reader may have ended (as in ``2>&1 | head``), its disk be full: no run ends for a line of its log."""

    def write(self, text: str) -> int:
        with suppress(OSError):
            sys.stderr.write(text)
        return len(text)

    def flush(self) -> None:
        with suppress(OSError):
            sys.stderr.flush()


def log() -> Any:
    """The logger; bind nothing to it, pass fields with each event."""
    return structlog.get_logger()


def bind_run(run_id: int) -> None:
    """Every further line carries this run."""
    structlog.contextvars.bind_contextvars(run_id=run_id)


def _one_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(escape_key(value))
    return event


class _OneLine(logging.Formatter):
    """What a library has to say, traceback and all, in the manner of our own lines."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(escape_key(super().format(record)))
