"""The tour: the main job, command by command, on a real S3 server; each claim is checked against what happened."""

from __future__ import annotations

import asyncio
import json
import os
import shlex
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote

from ingest.demo.server import ACCESS_KEY, SECRET_KEY, Server, serve
from ingest.demo.statements import statements
from ingest.errors import IngestError
from ingest.settings import Settings
from ingest.source.client import S3Client

BUCKET = "statements"


@asynccontextmanager
async def stocked_server(directory: Path, count: int) -> AsyncIterator[tuple[Server, S3Client]]:
    """A server with `count` sample statements in its bucket, and a client to change them."""
    async with serve(directory / "server", BUCKET) as server:
        settings = Settings.model_validate(
            {"endpoint": server.endpoint, "bucket": BUCKET, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
        )
        async with S3Client(settings) as client:
            limit = asyncio.Semaphore(16)

            async def put(key: str, body: bytes) -> None:
                async with limit:
                    await client.put(key, body)

            await asyncio.gather(*(put(key, body) for key, body in statements(count)))
            yield server, client


def environment(server: Server, directory: Path) -> dict[str, str]:
    """The variables that make the command line use this server."""
    return {
        "S3_ENDPOINT": server.endpoint,
        "S3_ACCESS_KEY": ACCESS_KEY,
        "S3_SECRET_KEY": SECRET_KEY,
        "S3_BUCKET": BUCKET,
        "S3_SECURE": "false",
        "INGEST_DATA_DIR": str(directory / "data"),
        # Stated, so that a catalog named by the user's own environment or .env is never written to.
        "DATABASE_URL": f"sqlite+aiosqlite:///{quote(str(directory / 'data' / '.ingest' / 'catalog.db'))}",
    }


@dataclass
class Tour:
    """Runs ``ingest`` as a user would, shows what it prints, and holds it to what the tour says."""

    variables: dict[str, str]
    show: Callable[[str], None]
    commands: int = 0

    async def run(self, title: str, *arguments: str) -> None:
        """One command with its output."""
        self.show(f"\n# {title}\n$ ingest {shlex.join(arguments)}")
        code, output, _ = (
            await self._call(*arguments, "-q") if arguments[0] != "check" else await self._call(*arguments)
        )
        self.show(output.rstrip())
        if code != 0:
            raise IngestError(f"the demo's `ingest {shlex.join(arguments)}` ended with exit code {code}")

    async def job(self, title: str, *arguments: str, **expected: int) -> None:
        """One job; `expected` are counts of its summary."""
        self.show(f"\n# {title}\n$ ingest {shlex.join(arguments)}")
        code, output, errors = await self._call(*arguments, "-q", "--json")
        if not output.strip():
            raise IngestError(f"the demo's `ingest {shlex.join(arguments)}` failed: {errors.strip()[-300:]}")
        report = json.loads(output)
        counts = {name: report[name] for name in ("listed", "new", "changed", "unchanged", "downloaded", "pruned",
                                                  "restored", "failed") if report.get(name)}  # fmt: skip
        said = ", ".join(f"{count} {name}" for name, count in counts.items()) or "nothing to do"
        self.show(f"{report['command']} {report['status']}: {said} in {report['seconds']:.1f} s")
        wrong = {name: report.get(name) for name, count in expected.items() if report.get(name) != count}
        if code != 0 or wrong:
            raise IngestError(f"the demo expected {expected} and got {wrong or f'exit code {code}'}")

    async def _call(self, *arguments: str) -> tuple[int, str, str]:
        self.commands += 1
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ingest", *arguments,
            env={**os.environ, **self.variables}, stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.PIPE,
        )  # fmt: skip
        try:
            output, errors = await process.communicate()
        except asyncio.CancelledError:
            process.terminate()
            await process.wait()
            raise
        return process.returncode or 0, output.decode(), errors.decode()


async def tour(directory: Path, count: int, show: Callable[[str], None]) -> None:
    """Walks through the main job.

    Raises:
        IngestError: a command did not do what the tour says.
    """
    show(f"Starting an S3 server on loopback, and putting {count} sample statements into it ...")
    async with stocked_server(directory, count) as (server, client):
        guide = Tour(environment(server, directory), show)
        await guide.run("Does the connection work?", "check")
        await guide.job("The nightly run: everything is new.", "sync", downloaded=count, listed=count)
        await guide.job("Again: there is nothing to do.", "sync", downloaded=0, unchanged=count)
        first, body = next(iter(statements(count)))
        await client.put(first, body + b"\n% corrected\n")
        await client.put("statements/2026/12/ACC-99999-2026-12.pdf", body)
        show("\n# Meanwhile one statement was corrected, and one arrived.")
        await guide.job("Only those two are downloaded.", "sync", downloaded=2, changed=1, new=1)
        await guide.job("Local copies are pruned (here: at once, not after 30 days).", "cleanup", "--older-than", "0s",
                        pruned=count + 1)  # fmt: skip
        await guide.job("A pruned copy is never downloaded again.", "sync", downloaded=0, unchanged=count + 1)
        await guide.job("One copy is wanted back ...", "restore", first, restored=1)
        await guide.job("... and all of the odd names.", "restore", "--prefix", "statements/2026/notes/", restored=3)
        await guide.run("What happened to that statement?", "history", first)
        await guide.run("Where do we stand?", "status")
        await guide.run("Is the audit trail whole?", "db", "check")
        show(f"\nDone: {guide.commands} commands, each did what this tour says of it.")
