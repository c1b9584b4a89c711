"""``ingest config``."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

import click

from ingest.cli.failures import fail, show_error
from ingest.cli.output import emit, say
from ingest.cli.runner import SETTING_FLAGS, Context, command_options
from ingest.cli.tables import show_table
from ingest.errors import ExitCode, IngestError, SettingsError

if TYPE_CHECKING:
    from ingest.settings import Settings


def _show_anyway(error: IngestError, *, as_json: bool, verbose: bool) -> NoReturn:
    """Settings that are wrong are shown as they were written, and then what is wrong with them."""
    if not isinstance(error, SettingsError):
        fail(error, as_json=as_json, verbose=verbose)
    try:
        _show(None, as_json=as_json, error=error)
    except IngestError:  # not even to be read
        fail(error, as_json=as_json, verbose=verbose)
    show_error(error)
    sys.exit(ExitCode.USAGE)


@click.command("config")
@partial(command_options, refuse=_show_anyway)
def command(context: Context) -> None:
    """Show every setting, its value (secrets as ***) and where it comes from; and what they lead to.

    Example: ingest config --json
    """
    _show(context.settings, as_json=context.json)


def _show(settings: Settings | None, *, as_json: bool, error: IngestError | None = None) -> None:
    from ingest.jobs.config import explain

    parameters = click.get_current_context().params
    env_file = parameters.get("env_file")
    flags = {name: parameters.get(name) for name in SETTING_FLAGS}
    shown = explain(flags, Path(env_file) if env_file else None, settings)
    if as_json:
        from ingest.model import RunStatus
        from ingest.observe.report import frame

        status, exit_code = (RunStatus.OK, ExitCode.OK) if error is None else (RunStatus.FAILED, ExitCode.USAGE)
        own = {
            "settings": [line._asdict() for line in shown.lines],
            "catalog": shown.catalog,
            "data_dir": shown.data_dir,
            **shown.notes,
        }
        emit(frame("config", status=status, exit_code=exit_code, error=error) | own)
        return
    show_table(("setting", "value", "from"), shown.lines)
    if shown.catalog is not None:
        say(f"\nCatalog: {shown.catalog}{_state(shown.notes.get('catalog_exists'))}")
        say(f"Data directory: {shown.data_dir}{_state(shown.notes.get('data_dir_exists'))}")


def _state(exists: object) -> str:
    return " (not there yet)" if exists is False else ""
