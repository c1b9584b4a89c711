"""``ingest check``."""

from __future__ import annotations

import sys

import click

from ingest.cli.output import say
from ingest.cli.params import Text
from ingest.cli.runner import Context, command_options, run_async
from ingest.errors import ExitCode, IngestError, ReaderGone

_RULE = "=" * 72


@click.command("check")
@click.option("--download", type=Text(), metavar="KEY", help="Also download this object, and check its bytes.")
@click.option("--upload", is_flag=True, help="Also put and remove test/connection_test.txt.")
@click.option(
    "--save-ca", type=Text(), metavar="FILE", help="Save the server's certificate, to be compared and then pinned."
)
@command_options
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
        _banner(context, f"CONNECTION FAILED: {escape_key(error.message)}", f"Next: {error.hint}")
        if context.verbose:
            raise
        if context.json:
            said = {"code": error.code, "message": error.message, "hint": error.hint}
            context.emit({"command": "check", "status": "failed", "steps": steps, "error": said, "exit_code": 1})
        sys.exit(ExitCode.FAILED)
    _banner(context, "CONNECTION OK", "Next: ingest sync --dry-run")
    if context.json:
        context.emit({"command": "check", "status": "ok", "steps": steps, "exit_code": 0})


def _banner(context: Context, *lines: str) -> None:
    for line in (_RULE, *lines, _RULE):
        say(line, err=context.json)
