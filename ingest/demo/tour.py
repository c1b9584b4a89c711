"""The tour: the main job, command by command, on a real S3 server; each claim is held against what happened."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ingest.demo.seed import BUCKET, Place, stocked
from ingest.demo.statements import NOTES, ODD_NAMES, corrected, statements
from ingest.errors import IngestError
from ingest.settings import Settings
from ingest.source.client import S3Client

LastRun = Callable[[Settings], Awaitable[Mapping[str, Any]]]
"""Gives the catalog's row of the last run: the tour takes a command's counts from there, not from what it printed."""

LATE_KEY = "statements/2026/12/ACC-99999-2026-12.pdf"


@dataclass
class Tour:
    """Runs ``ingest`` as a user would, shows what it prints, and holds it to what the tour says."""

    place: Place
    show: Callable[[str], None]
    last_run: LastRun
    shown: list[str] = field(default_factory=list)
    """The command lines so far."""

    async def run(self, title: str, *arguments: str, code: int = 0) -> None:
        """One command with its output; `code` is the exit code it should have.

        Raises:
            IngestError: it ended otherwise.
        """
        line = f"ingest {shlex.join(arguments)}"
        self.show(f"\n# {title}\n$ {line}")
        ended, output, errors = await self._call(*arguments)
        self.show(output.rstrip())
        if ended != code:
            raise IngestError(f"the demo's `{line}` ended with exit code {ended}: {_last_line(errors)}")
        self.shown.append(line)

    async def job(self, title: str, *arguments: str, code: int = 0, **expected: int) -> None:
        """One job with its output; `expected` are counts of its run.

        Raises:
            IngestError: it failed, or did something else.
        """
        await self.run(title, *arguments, code=code)
        run = await self.last_run(self.place.settings)
        found = {"command": run["command"]} | {name: run["counts"][name] for name in expected}
        if found != {"command": arguments[0], **expected}:
            raise IngestError(f"the demo's `{self.shown[-1]}` did {found} and not {expected}")

    def expect_copies(self, expected: Mapping[str, bytes]) -> None:
        """Raises `IngestError` unless exactly these objects lie below the data directory, byte for byte."""
        root = self.place.data_dir / BUCKET
        found = {path.relative_to(root).as_posix(): path for path in root.rglob("*") if path.is_file()}
        # A key's path is the key itself, but for the percent sign.
        wanted = {key.replace("%", "%25"): body for key, body in expected.items()}
        if found.keys() != wanted.keys() or any(path.read_bytes() != wanted[name] for name, path in found.items()):
            raise IngestError(f"the demo found {len(found)} copies and not the {len(wanted)} it should")

    async def _call(self, *arguments: str) -> tuple[int, str, str]:
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingest", *arguments,
            env=self.place.environment,
            cwd=self.place.directory / "server",  # where no `.env` of the user is
            stdin=asyncio.subprocess.DEVNULL, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        return process.returncode or 0, output.decode(), errors.decode()


async def tour(directory: Path, count: int, show: Callable[[str], None], last_run: LastRun) -> list[str]:
    """Walks through the main job on `count` statements, and returns the command lines it showed.

    Raises:
        IngestError: a command did not do what the tour says.
    """
    show(f"Starting an S3 server on loopback, and putting {count} sample statements into it ...")
    async with stocked(directory, count, show) as (place, client):
        guide = Tour(place, show, last_run)
        bucket = dict(statements(count))
        await _nightly(guide, client, bucket)
        await _prune_and_restore(guide, bucket)
        _conclude(guide, len(bucket))
        return guide.shown


async def _nightly(guide: Tour, client: S3Client, bucket: dict[str, bytes]) -> None:
    count = len(bucket)
    await guide.run("Does the connection work?", "check")
    await guide.job("The nightly run: everything is new.", "sync", listed=count, new=count, downloaded=count)
    guide.expect_copies(bucket)
    await guide.job("Again: there is nothing to do.", "sync", listed=count, unchanged=count, downloaded=0)

    first = next(iter(bucket))
    bucket |= {first: corrected(bucket[first]), LATE_KEY: bucket[first]}
    for key in (first, LATE_KEY):
        await client.put(key, bucket[key])
    guide.show(f"\n# Meanwhile in the bucket: {first} was corrected, and {LATE_KEY} arrived.")
    await guide.job("Only those two are downloaded.", "sync", unchanged=count - 1, changed=1, new=1, downloaded=2)
    guide.expect_copies(bucket)


async def _prune_and_restore(guide: Tour, bucket: dict[str, bytes]) -> None:
    count, first = len(bucket), next(iter(bucket))
    prune = ("cleanup", "--older-than", "0s")
    await guide.job("Local copies are pruned (here at once, and not after 30 days).", *prune, pruned=count)
    guide.expect_copies({})
    again = "The bucket still holds all of them, and yet: a pruned copy is never downloaded again."
    await guide.job(again, "sync", unchanged=count, downloaded=0)

    await guide.job("One copy is wanted back ...", "restore", first, restored=1)
    by_prefix = ("restore", "--prefix", NOTES)
    await guide.job("... and everything below a prefix.", *by_prefix, restored=len(ODD_NAMES))
    guide.expect_copies({key: body for key, body in bucket.items() if key == first or key.startswith(NOTES)})
    await guide.run("What happened to that first statement?", "history", first)
    await guide.run("Where do we stand?", "status")
    await guide.run("Is the audit trail whole?", "db", "check")


def _conclude(guide: Tour, count: int) -> None:
    place = guide.place
    guide.show(
        f"\nDone: {len(guide.shown)} commands, and each did what this tour says of it, by the catalog's counts and the "
        f"bytes on disk.\n"
        f"Shown: {count} objects listed, downloaded and checked; nothing done twice; a changed and a new object found; "
        f"copies pruned, not downloaded again, and restored.\n"
        f"Copies: {place.data_dir / BUCKET}\n"
        f"Catalog: {place.settings.sqlite_path}\n"
        f"Server: {place.server.endpoint}"
    )


def _last_line(text: str) -> str:
    lines = [line for line in text.splitlines() if line.startswith("error:")] or text.splitlines() or [""]
    return lines[-1][:300]
