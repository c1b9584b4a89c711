"""The way from an error to what people and scripts are told, and to the exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from contextlib import suppress
from typing import NoReturn

import click

from ingest.cli.output import emit, say
from ingest.errors import IngestError, SettingsError
from ingest.redaction import redact


def fail(error: IngestError, *, as_json: bool, verbose: bool) -> NoReturn:
    """One line and a hint on stderr, with `as_json` a run's summary on stdout, and the documented exit code."""
    if verbose:
        show_traceback()
    show_error(error)
    if as_json:
        _emit_summary(_name_of(click.get_current_context()), error)
    sys.exit(error.exit_code)


def fail_usage(error: click.UsageError, arguments: Sequence[str]) -> NoReturn:
    """Click's own words on stderr, and with ``--json`` among the arguments a run's summary on stdout."""
    with suppress(OSError):
        error.show()
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in options:
        name = _name_of(error.ctx) if error.ctx is not None else ""
        hint = f"See `ingest {name} --help`." if name else "See `ingest --help`."
        _emit_summary(name, SettingsError(error.format_message(), hint=hint))
    sys.exit(error.exit_code)


def show_traceback(error: BaseException | None = None) -> None:
    """Of `error`, or of what is being handled. Libraries quote what they were given, so secrets are cut out."""
    found = error if error is not None else sys.exception()
    say(redact("".join(traceback.format_exception(found))), err=True, end="")


def show_error(error: IngestError) -> None:
    from ingest.observe.escape import escape_key

    say(f"error: {escape_key(error.message)}", err=True)
    if error.hint:
        say(f"hint: {error.hint}", err=True)


def _emit_summary(command: str, error: IngestError) -> None:
    from ingest.model import RunReport, RunStatus
    from ingest.observe.report import as_json

    emit(as_json(RunReport(command, status=RunStatus.FAILED, error=error, exit_code=error.exit_code)))


def _name_of(context: click.Context) -> str:
    """``sync``, ``hold add``; empty for the group of all."""
    return context.command_path.removeprefix(context.find_root().command_path).strip()
