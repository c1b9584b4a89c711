"""Logs by structlog. Event names are stable.

The command line writes them to stderr: readable lines on a terminal, else JSON lines. In any other program they go to
the logger ``ingest`` of Python's logging, which says nothing unless the program asks for it.
"""

from __future__ import annotations

import logging
import sys
from collections import Counter
from collections.abc import MutableMapping
from contextlib import AbstractContextManager, suppress
from functools import cache
from typing import Any

import structlog
from structlog.contextvars import bound_contextvars, merge_contextvars

from ingest.observe.escape import escape_key
from ingest.system.redaction import redact

LOGGER = logging.getLogger("ingest")
LOGGER.addHandler(logging.NullHandler())  # else Python would print warnings that nobody asked for

_process = {"is_ours": False}
"""Whether the process is the command line, and logs are for its user."""


def configure(*, verbosity: int, warnings: tuple[str, ...] = ()) -> None:
    """For the command line. `verbosity` is -1 (warnings only), 0 or 1 (debug)."""
    _process["is_ours"] = True
    _said.clear()
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
            *([] if verbosity > 0 else [_few]),
            merge_contextvars,
            *([_counts_that_say_something] if on_terminal else []),
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
    for name in ("botocore", "aiobotocore", "aioboto3", "aiohttp", "urllib3", "sqlalchemy", "aiosqlite"):
        logging.getLogger(name).setLevel(logging.WARNING)
    # Whoever needs credentials says why there are none; these say it before, with a traceback.
    for name in ("aiobotocore.credentials", "aiobotocore.tokens"):
        logging.getLogger(name).setLevel(logging.ERROR)
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
    if _process["is_ours"]:
        return structlog.get_logger()
    level = LOGGER.getEffectiveLevel()
    return _librarys(next((known for known in _LEVELS if known >= level), _LEVELS[-1]))


_LEVELS = (logging.DEBUG, logging.INFO, logging.WARNING, logging.ERROR, logging.CRITICAL)


@cache
def _librarys(level: int) -> Any:
    """Ours alone: whatever the program makes of structlog itself, secrets are cut out before a line leaves us."""
    return structlog.wrap_logger(
        LOGGER,
        processors=[merge_contextvars, _one_line, structlog.processors.KeyValueRenderer(key_order=["event"])],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        cache_logger_on_first_use=False,
    )


MOST_ALIKE = 20
"""Warnings or errors of one kind, each about an object, that are written; the others are only counted."""
_said: Counter[tuple[str, str]] = Counter()
"""How many of each kind (and level) there were."""
_limited: set[str] = set()


def limited_elsewhere(event: str) -> None:
    """Lines of this kind are written as they come: whoever says them sees to it that they are few."""
    _limited.add(event)


def _few(_logger: object, method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    if "key" in event and method in ("warning", "error") and event["event"] not in _limited:
        _said[method, event["event"]] += 1
        if _said[method, event["event"]] > MOST_ALIKE:
            raise structlog.DropEvent
    return event


def _counts_that_say_something(
    _logger: object, _method: str, event: MutableMapping[str, Any]
) -> MutableMapping[str, Any]:
    """Of the twenty counts of a run: programs want them all, people those that are not zero."""
    if event["event"] != "run_finished":
        return event
    return {name: value for name, value in event.items() if type(value) is not int or value}


def conclude(run_id: int | None) -> None:
    """One line for each kind of which there were more than were written. What failed, the run's row leads to."""
    for (method, event), count in _said.items():
        if count > MOST_ALIKE:
            where = f": `ingest runs show {run_id}`" if method == "error" and run_id is not None else " (all with -v)"
            getattr(log(), method)("more", of=event, message=f"and {count - MOST_ALIKE:,} more{where}")
    _said.clear()


def bound_to_run(run_id: int) -> AbstractContextManager[None]:
    """Every line meanwhile carries this run."""
    return bound_contextvars(run_id=run_id)


def _one_line(_logger: object, _method: str, event: MutableMapping[str, Any]) -> MutableMapping[str, Any]:
    for name, value in event.items():
        if isinstance(value, str):
            event[name] = redact(escape_key(value))
    return event


class _OneLine(logging.Formatter):
    """What a library has to say, traceback and all, in the manner of our own lines."""

    def format(self, record: logging.LogRecord) -> str:
        return redact(escape_key(super().format(record)))
