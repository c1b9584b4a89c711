"""What all commands share: common flags, settings, logs, signals, and the way from an error to its exit code."""

from __future__ import annotations

import asyncio
import gc
import signal
import sys
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import partial, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, NoReturn, Protocol, TypeVar

import click

from ingest.cli.failures import fail, name_of, show_error, show_traceback
from ingest.cli.output import emit, say
from ingest.cli.params import PathText, Text
from ingest.errors import IngestError, ReaderGone, exhausted
from ingest.system import signals
from ingest.system.redaction import protect

if TYPE_CHECKING:
    from ingest.model import RunReport
    from ingest.observe.progress import Progress
    from ingest.settings import Settings
    from ingest.tasks.stop import Stop

T = TypeVar("T")
_VALUES_BETWEEN_COLLECTIONS = 20_000
SETTING_FLAGS = {
    "endpoint": "S3_ENDPOINT",
    "bucket": "S3_BUCKET",
    "data_dir": "INGEST_DATA_DIR",
    "ca_bundle": "S3_CA_BUNDLE",
    "region": "S3_REGION",
}


@dataclass(frozen=True)
class Context:
    """One invocation."""

    settings: Settings
    json: bool
    quiet: bool
    verbose: bool

    def emit(self, document: Mapping[str, object]) -> None:
        """The one object of ``--json``: what each says (`observe.report.frame`), and this command's own fields."""
        from ingest.observe.report import frame

        emit({**frame(name_of(click.get_current_context())), **document})

    def show(self, report: RunReport) -> None:
        """How a run ended: its error on stderr; the object of ``--json``, or the line for people, on stdout."""
        from ingest.observe.report import as_json, as_line

        if report.error is not None and not isinstance(report.error, ReaderGone):
            show_error(report.error, report.exit_code)
            if self.verbose:
                show_traceback(report.error)
        with suppress(ReaderGone):  # the work has ended, and its own code says how
            if self.json:
                self.emit(as_json(report))
            elif not self.quiet:
                say(as_line(report))


class Refusal(Protocol):
    """How a command ends with an error."""

    def __call__(self, error: IngestError, *, as_json: bool, verbose: bool) -> NoReturn: ...


def command_options(
    function: Callable[..., Any], refuse: Refusal = fail, *, users_settings: bool = True
) -> Callable[..., Any]:
    """Adds the common flags, and turns them into the command's first argument, a `Context`.

    An error ends the command by `refuse`, also one of the settings, when there is no `Context` yet. Without
    `users_settings` neither environment nor files are read: whatever is wrong there is not the command's business.
    """

    @wraps(function)
    def call(**values: Any) -> None:
        as_json, quiet, verbose = values.pop("as_json"), values.pop("quiet"), values.pop("verbose")
        flags = {name: values.pop(name) for name in SETTING_FLAGS}
        env_file = values.pop("env_file")
        signals.called(name_of(click.get_current_context()))
        try:
            from ingest.observe.logs import configure
            from ingest.settings import Settings

            file = Path(env_file) if env_file else None
            settings = Settings.load(flags, env_file=file) if users_settings else Settings()
            protect(settings.secrets)
            configure(verbosity=1 if verbose else -1 if quiet else 0, warnings=settings.warnings)
            function(Context(settings, as_json, quiet, verbose), **values)
        except ReaderGone as gone:
            sys.exit(gone.exit_code)
        except IngestError as error:
            refuse(error, as_json=as_json, verbose=verbose)
        except click.UsageError as error:
            error.ctx = error.ctx or click.get_current_context()
            raise
        except click.exceptions.Exit:
            raise
        except Exception as defect:  # noqa: BLE001 - the last line of defence before a person
            said = exhausted(defect) or IngestError(f"a defect in ingest: {type(defect).__name__}")
            refuse(said, as_json=as_json, verbose=verbose)

    for name, variable in reversed(SETTING_FLAGS.items()):
        call = click.option(
            f"--{name.replace('_', '-')}", name, type=Text(), metavar="VALUE", help=f"Instead of {variable}."
        )(call)
    call = click.option(
        "--env-file", type=PathText("file"), metavar="FILE", help="Read settings from FILE instead of .env."
    )(call)
    call = click.option("-v", "--verbose", is_flag=True, help="Debug logs, and tracebacks of errors.")(call)
    call = click.option("-q", "--quiet", is_flag=True, help="Warnings and errors only; no progress.")(call)
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON object on stdout.")(call)


def run_async(work: Callable[[Stop], Awaitable[T]], *, at_once: bool = False) -> T:
    """Runs `work` on uvloop. The first SIGINT or SIGTERM asks it to stop; the second one cancels it, and in a second
    ends the process, whatever that waits for. So does the first one with `at_once`: nothing is to be finished."""

    async def supervised() -> T:
        from ingest.tasks.stop import Stop

        stop, seen = Stop(), list[signal.Signals]()
        loop = asyncio.get_running_loop()
        main = asyncio.ensure_future(work(stop))

        def received(number: signal.Signals) -> None:
            seen.append(number)
            if at_once or len(seen) > 1:
                signals.end_soon(seen[0])
                main.cancel()
            stop.request(number)

        for number in before:
            loop.add_signal_handler(number, received, number)
        try:
            return await main
        except asyncio.CancelledError:
            raise stop.error from None

    _let_collections_be_rare()
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        with asyncio.Runner(loop_factory=_loop_factory()) as runner:
            return runner.run(supervised())
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop] | None:
    try:
        import uvloop
    except ImportError:
        return None
    return uvloop.new_event_loop


def _let_collections_be_rare() -> None:
    """A run makes millions of short-lived values and hardly a cycle: looking for those took a twentieth of its time.

    What was imported lives as long as the process, and is not looked at again.
    """
    gc.freeze()
    gc.set_threshold(_VALUES_BETWEEN_COLLECTIONS, 10, 10)
    gc.enable()


def run_job(context: Context, job: Callable[[Progress, Stop], Awaitable[RunReport]]) -> None:
    """Runs a job with progress, tells how it ended, and exits with its code."""
    from ingest.observe.progress import choose
    from ingest.observe.report import finish, log_end

    progress = choose(quiet=context.quiet)

    async def work(stop: Stop) -> RunReport:
        try:
            return await job(progress, stop)
        finally:
            progress.close()

    report = run_async(work)
    finish(report, (partial(log_end, quiet=context.quiet), context.show))
    sys.exit(report.exit_code)
