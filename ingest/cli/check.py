"""``ingest check``."""

from __future__ import annotations

import locale
import sys
from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, NoReturn

import click

from ingest.cli.failures import show_traceback
from ingest.cli.output import emit, say
from ingest.cli.params import PathText, Text
from ingest.cli.runner import Context, command_options, run_async
from ingest.errors import ExitCode, IngestError, NoSuchBucket, ReaderGone

if TYPE_CHECKING:
    from ingest.jobs.check import Step
    from ingest.model import RemoteObject
    from ingest.settings import Settings

_RULE = "=" * 72
_STEPS = 4


class _Sign:
    """What stands before a line that went well or badly: plain letters where the output cannot take the signs."""

    def __init__(self) -> None:
        try:
            for encoding in (sys.stdout.encoding, locale.getencoding()):
                "✓✗".encode(encoding)
        except (UnicodeEncodeError, LookupError):
            self.good, self.bad = "OK:", "FAILED:"
        else:
            self.good, self.bad = "✓", "✗"


class _Shown:
    """The steps as they are printed, and as `--json` has them. Some want nothing of it but the banner, or not even that
    where all is well."""

    def __init__(self, settings: Settings, *, silent: bool) -> None:
        self.done: list[dict[str, object]] = []
        self._bucket = settings.bucket
        self._silent = silent
        self._sign = _Sign()
        header = (
            "S3 connection test",
            f"Endpoint: {settings.endpoint or '(not set)'}",
            f"Bucket: {settings.bucket or '(not set)'}",
            f"Secure: {settings.secure}",
        )
        for line in (_RULE, *header, _RULE):
            self._say(line)

    def tries(self, number: int, what: str) -> None:
        self._say(f"[{number}/{_STEPS}] {what} ..." if number else f"[+] {what} ...")

    def passed(self, step: Step) -> None:
        self.done.append({"step": step.number, "title": step.title, "lines": step.lines})
        self._say(f"{self._sign.good} {step.showed}")
        for line in self._details(step):
            self._say(line)

    def refused(self, error: IngestError) -> None:
        self._say(f"{self._sign.bad} {error.message}")
        if isinstance(error, NoSuchBucket) and error.available:
            for line in ("Available buckets:", *(f"  - {name}" for name in error.available)):
                self._say(line)

    def _details(self, step: Step) -> list[str]:
        if step.number == 3:
            return []  # its sentence says it all
        if step.number != _STEPS:
            return [f"      {line}" for line in step.lines]
        lines = [f"Objects in '{self._bucket}':"]
        for number, remote in enumerate(step.objects, 1):
            lines += _described(number, remote)
        if not step.objects:
            lines.append("  (Bucket is empty)")
        if step.more:
            lines.append(f"  ... (showing first {len(step.objects)} objects only)")
        return [*lines, f"Total objects shown: {len(step.objects)}"]

    def _say(self, line: str) -> None:
        from ingest.observe.escape import escape_key

        if not self._silent:
            say(escape_key(line))


def _described(number: int, remote: RemoteObject) -> list[str]:
    return [
        f"  {number:2}. {remote.key}",
        f"      Size: {remote.size / 1e6:.2f} MB",
        f"      Last Modified: {remote.last_modified:%Y-%m-%d %H:%M:%S} UTC",
    ]


def _refuse(error: IngestError, *, as_json: bool, verbose: bool, steps: Sequence[object] = ()) -> NoReturn:
    """Whatever is wrong, settings too, is a failed check."""
    if verbose:
        show_traceback()
    _banner(f"{_Sign().bad} S3 CONNECTION TEST FAILED", f"Cause: {error.message}", f"Next: {error.hint}", err=as_json)
    if as_json:
        from ingest.model import RunStatus
        from ingest.observe.report import frame

        failed = frame("check", status=RunStatus.FAILED, exit_code=ExitCode.FAILED, error=error)
        emit(failed | {"steps": list(steps)})
    sys.exit(ExitCode.FAILED)


@click.command("check")
@click.option("--download", type=Text(), metavar="KEY", help="Also download this object, and check its bytes.")
@click.option("--upload", is_flag=True, help="Also put and remove test/connection_test.txt.")
@click.option(
    "--save-ca",
    type=PathText("file"),
    metavar="FILE",
    help="Save the server's certificate, to be compared and then pinned, and test with it.",
)
@partial(command_options, refuse=_refuse)
def command(context: Context, download: str | None, upload: bool, save_ca: str | None) -> None:
    """Test the connection to the bucket in four steps, and name what is wrong.

    Example: ingest check --save-ca minio.pem
    """
    from ingest.engine.options import CheckOptions
    from ingest.jobs.check import check

    shown = _Shown(context.settings, silent=context.json or context.quiet)
    options = CheckOptions(download, upload, save_ca)
    try:
        run_async(lambda _stop: check(context.settings, options, listener=shown))
    except ReaderGone:
        raise
    except IngestError as error:
        shown.refused(error)
        _refuse(error, as_json=context.json, verbose=context.verbose, steps=shown.done)
    if context.json:
        context.emit({"steps": shown.done})
    if context.quiet:
        return
    following = f"compare the certificate, set S3_CA_BUNDLE={save_ca}, then " if save_ca else ""
    _banner(
        f"{_Sign().good} S3 CONNECTION TEST SUCCESSFUL", f"Next: {following}ingest sync --dry-run", err=context.json
    )


def _banner(*lines: str, err: bool) -> None:
    from ingest.observe.escape import escape_key

    for line in (_RULE, *lines, _RULE):
        say(escape_key(line), err=err)
