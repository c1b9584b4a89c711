"""``ingest demo``."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import click

from ingest.cli.runner import Context, command_options, run_async

if TYPE_CHECKING:
    from ingest.jobs.stop import Stop


@click.command("demo")
@click.option("--dir", "directory", metavar="DIR", help="Keep everything there; the default is temporary.")
@click.option("--objects", type=click.IntRange(4, 480), default=200, show_default=True, help="Sample statements.")
@click.option("--serve", is_flag=True, help="Only keep the server up, and print the .env lines to use it.")
@command_options
def command(context: Context, directory: str | None, objects: int, serve: bool) -> None:
    """Show the main job on an embedded S3 server and SQLite: real files, real requests, nothing left behind.

    Example: ingest demo --serve --dir /tmp/ingest-demo
    """
    with _home(directory) as home:
        run_async(lambda stop: _serve(home, objects, stop) if serve else _tour(home, objects, stop))
        if directory:
            click.echo(f"Files, catalog and server's data are in {home}.")


async def _tour(home: Path, objects: int, stop: Stop) -> None:
    import asyncio

    from ingest.demo.tour import tour

    touring = asyncio.ensure_future(tour(home, objects, click.echo))
    stopping = asyncio.ensure_future(stop.wait())
    await asyncio.wait({touring, stopping}, return_when=asyncio.FIRST_COMPLETED)
    stopping.cancel()
    if not touring.done():
        touring.cancel()
        await asyncio.wait({touring})
        stop.raise_if_requested()
    await touring


async def _serve(home: Path, objects: int, stop: Stop) -> None:
    from ingest.demo.tour import environment, stocked_server

    async with stocked_server(home, objects) as (server, _):
        click.echo("# The server is up until Ctrl-C. Put these lines into .env:")
        for name, value in environment(server, home).items():
            click.echo(f"{name}={value}")
        await stop.wait()


@contextmanager
def _home(directory: str | None) -> Iterator[Path]:
    if directory is not None:
        path = Path(directory).absolute()
        path.mkdir(parents=True, exist_ok=True)
        yield path
        return
    with tempfile.TemporaryDirectory(prefix="ingest-demo-", ignore_cleanup_errors=True) as name:
        yield Path(name)
