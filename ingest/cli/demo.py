"""``ingest demo``."""

from __future__ import annotations

import asyncio
import os
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from ingest.cli.output import say
from ingest.cli.params import PathText
from ingest.cli.runner import Context, command_options, run_async
from ingest.errors import SettingsError

if TYPE_CHECKING:
    from ingest.settings import Settings
    from ingest.tasks.stop import Stop


@click.command("demo")
@click.option(
    "--dir",
    "directory",
    type=PathText("directory"),
    metavar="DIR",
    help="Keep everything there; the default is temporary.",
)
@click.option("--objects", type=click.IntRange(4, 480), default=200, show_default=True, help="Sample statements.")
@click.option("--events", is_flag=True, help="Show the events: broker, bucket and /v1/verify, end to end.")
@click.option(
    "--serve",
    is_flag=True,
    help="Only keep the server up, with --events broker and service too, and print the .env lines to use it.",
)
@partial(command_options, users_settings=False)
def command(context: Context, directory: str | None, objects: int, events: bool, serve: bool) -> None:
    """Show the main job on an embedded S3 server and SQLite: real files, real requests, nothing left behind.

    Example: ingest demo --serve --dir /tmp/ingest-demo
    """
    for name in [name for name in os.environ if name.upper() in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY")]:
        del os.environ[name]  # all that the demo talks to is on loopback
    with _home(directory, must_be_empty=not serve) as home:
        if serve:
            run_async(lambda stop: _serve(context, home, objects, stop, events=events))
        else:
            _show_tour(context, home, objects, events=events)
        kept = f"All of it is kept in {home}." if directory else "All of it is removed now; `--dir DIR` keeps it."
        say(kept, err=context.json)


def _show_tour(context: Context, home: Path, objects: int, *, events: bool) -> None:

    if events:
        from ingest.demo.events import tour
    else:
        from ingest.demo.tour import tour

    started = time.monotonic()
    show = partial(say, err=context.json)
    commands = run_async(lambda stop: stop.during(tour(home, objects, show, _last_run)))
    if context.json:
        seconds = round(time.monotonic() - started, 3)
        context.emit({"commands": commands, "seconds": seconds})


async def _last_run(settings: Settings) -> Mapping[str, Any]:
    from ingest.jobs.show import runs

    return (await runs(settings, 1))[0]


async def _serve(context: Context, home: Path, objects: int, stop: Stop, *, events: bool) -> None:
    if events:
        from ingest.demo.events import announced as served
    else:
        from ingest.demo.seed import served

    async def until_stopped() -> None:
        async with served(home, objects) as place:
            if context.json:
                context.emit({"settings": dict(place.variables)})
            else:
                say("# The server is up until Ctrl-C. Put these lines into .env:")
                for name, value in place.variables.items():
                    say(f"{name}={value}")
            await asyncio.Event().wait()

    with suppress(type(stop.error)):  # stopping is how this command ends well
        await stop.during(until_stopped())


@contextmanager
def _home(directory: str | None, *, must_be_empty: bool) -> Iterator[Path]:
    """Where everything lives.

    Raises:
        SettingsError: it cannot be made, or `directory` holds something where the tour counts on starting from nothing.
    """
    if directory is None:
        try:
            temporary = tempfile.TemporaryDirectory(prefix="ingest-demo-", ignore_cleanup_errors=True)
        except OSError as error:
            raise SettingsError(
                f"no temporary directory can be made: {error.strerror}", hint="Set TMPDIR, or say where: --dir DIR."
            ) from error
        with temporary as name:
            yield Path(name)
        return
    path = Path(directory).absolute()
    try:
        path.mkdir(parents=True, exist_ok=True)
        occupied = must_be_empty and any(path.iterdir())
    except OSError as error:
        raise SettingsError(f"--dir {path}: {error.strerror}") from error
    if occupied:
        raise SettingsError(f"--dir {path} is not empty; the tour wants a new or an empty directory")
    yield path
