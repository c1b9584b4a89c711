"""The way from an error to what people and scripts are told, and to the exit code."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Sequence
from typing import Any, NoReturn

import click

from ingest.cli.output import emit, say
from ingest.errors import IngestError, SettingsError
from ingest.system.redaction import redact


def fail(error: IngestError, *, as_json: bool, verbose: bool) -> NoReturn:
    """One line and a hint on stderr, with `as_json` a run's summary on stdout, and the documented exit code."""
    if verbose:
        show_traceback()
    show_error(error)
    if as_json:
        _emit_summary(name_of(click.get_current_context()), error)
    sys.exit(error.exit_code)


def fail_usage(error: click.UsageError, arguments: Sequence[str]) -> NoReturn:
    """Click's own words as any other error, and with ``--json`` among the arguments a run's summary on stdout."""
    name = name_of(error.ctx) if error.ctx is not None else ""
    command = f"ingest {name}".rstrip()
    unnamed = isinstance(error, click.exceptions.NoArgsIsHelpError)  # its message is the whole help
    said = SettingsError(
        f"{command} wants one of its commands" if unnamed else error.format_message(), hint=f"See `{command} --help`."
    )
    if error.ctx is not None:
        say(error.ctx.get_help() if unnamed else error.ctx.get_usage(), err=True)
    show_error(said)
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    if "--json" in options:
        _emit_summary(name, said)
    sys.exit(said.exit_code)


def show_traceback(error: BaseException | None = None) -> None:
    """Of `error`, or of what is being handled. Libraries quote what they were given, so secrets are cut out."""
    found = error if error is not None else sys.exception()
    say(redact("".join(traceback.format_exception(found))), err=True, end="")


def show_error(error: IngestError, exit_code: int | None = None) -> None:
    """Its line, with the code that the command ends with (unless said: the error's own), and the hint."""
    from ingest.observe.escape import escape_key

    code = error.exit_code if exit_code is None else exit_code
    say(f"error: {escape_key(error.message)} (exit {int(code)})", err=True)
    if error.hint:
        say(f"hint: {error.hint}", err=True)


def told_of(error: IngestError) -> dict[str, Any]:
    """How the one object of ``--json`` says that the command ended with an error, where it has begun already."""
    from ingest.model import RunReport, RunStatus
    from ingest.observe.report import as_json

    told = as_json(RunReport("", status=RunStatus.FAILED, error=error, exit_code=error.exit_code))
    return {name: told[name] for name in ("status", "exit_code", "error")}


def _emit_summary(command: str, error: IngestError) -> None:
    from ingest.model import RunReport, RunStatus
    from ingest.observe.report import as_json

    emit(as_json(RunReport(command, status=RunStatus.FAILED, error=error, exit_code=error.exit_code)))


def name_of(context: click.Context) -> str:
    """``sync``, ``hold add``; empty for the group of all."""
    return context.command_path.removeprefix(context.find_root().command_path).strip()
