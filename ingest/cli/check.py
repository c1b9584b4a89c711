"""``ingest check``."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from functools import partial
from typing import NoReturn

import click

from ingest.cli.failures import show_traceback
from ingest.cli.output import emit, say
from ingest.cli.params import Text
from ingest.cli.runner import Context, command_options, run_async
from ingest.errors import ExitCode, IngestError, ReaderGone

_RULE = "=" * 72


def _refuse(error: IngestError, *, as_json: bool, verbose: bool, steps: Sequence[object] = ()) -> NoReturn:
    """Whatever is wrong, settings too, is a failed check."""
    from ingest.observe.escape import escape_key

    if verbose:
        show_traceback()
    _banner(f"CONNECTION FAILED: {escape_key(error.message)}", f"Next: {error.hint}", err=as_json)
    if as_json:
        said = {"code": error.code, "message": error.message, "hint": error.hint}
        emit({"command": "check", "status": "failed", "steps": list(steps), "error": said, "exit_code": 1})
    sys.exit(ExitCode.FAILED)


@click.command("check")
@click.option("--download", type=Text(), metavar="KEY", help="Also download this object, and check its bytes.")
@click.option("--upload", is_flag=True, help="Also put and remove test/connection_test.txt.")
@click.option(
    "--save-ca", type=Text(), metavar="FILE", help="Save the server's certificate, to be compared and then pinned."
)
@partial(command_options, refuse=_refuse)
def command(context: Context, download: str | None, upload: bool, save_ca: str | None) -> None:
    """Test the connection to the bucket in four steps, and name what is wrong.

    Example: ingest check --save-ca minio.pem
    """
    from ingest.jobs.check import Step, check
    from ingest.jobs.options import CheckOptions
    from ingest.observe.escape import escape_key

    steps: list[dict[str, object]] = []

    def show(step: Step) -> None:
        steps.append({"step": step.number, "title": step.title, "lines": step.lines})
        if not context.json:
            say(f"[{step.number}/4] {step.title}: ok" if step.number else f"[+] {step.title}")
            for line in step.lines:
                say(f"      {escape_key(line)}")

    options = CheckOptions(download, upload, save_ca)
    try:
        run_async(lambda _stop: check(context.settings, options, show))
    except ReaderGone:
        raise
    except IngestError as error:
        _refuse(error, as_json=context.json, verbose=context.verbose, steps=steps)
    _banner("CONNECTION OK", "Next: ingest sync --dry-run", err=context.json)
    if context.json:
        context.emit({"command": "check", "status": "ok", "steps": steps, "exit_code": 0})


def _banner(*lines: str, err: bool) -> None:
    for line in (_RULE, *lines, _RULE):
        say(line, err=err)
