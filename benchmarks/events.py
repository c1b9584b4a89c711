"""How many events a second go end to end: topic, bucket, disk, catalog, /v1/verify. Every part is real.

    python -m benchmarks.events [--events 5000] [--rounds 3] [--ways NAME…] [--profile FILE] [--quick]

The time is that from the partitions' assignment to the last delivery that is recorded. Broker, S3 server, service and
database take their share of the same cores; the section in ``RESULTS.md`` says how much.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import func, select

from benchmarks.cases import ORDER
from benchmarks.event_parts import SIZE, Parts, Way, running
from benchmarks.report import Samples, rate, replace, section
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema import schema
from ingest.catalog.schema.tables import events
from tests.fixtures.catalogs import reading

HOME = Path(__file__).resolve().parent
WORK = HOME / "work"
CASE = "events"
WAYS = tuple(Way(form, database) for form in ("notification", "s3_path") for database in ("SQLite", "PostgreSQL"))
AIMS = (rate(least=1_000, aim=1_500, of="events"),)
_LONGEST_SECONDS = 600
_QUIET = 0.85
"""Of the cores' time, idle."""


@dataclass
class Measured:
    """The runs of one way: `around` has the seconds of CPU of the parts around us."""

    samples: Samples = field(default_factory=Samples)
    around: dict[str, list[float]] = field(default_factory=dict)


async def once(parts: Parts, way: Way, measured: Measured, command: list[str], wait: float) -> None:
    """One run of the command as a user would run it."""
    variables = await parts.begin(way)
    url = variables["DATABASE_URL"]
    if way.database == "PostgreSQL":
        await schema.upgrade(url)
    os.sync()
    await until_quiet(wait)
    before, output = await parts.cpu(), parts.directory / "output"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(HOME / "measure.py"), str(_LONGEST_SECONDS), str(output),
        *command, "consume", "--until-idle", "2s", "--json",
        env=variables, cwd=parts.directory, stdout=subprocess.PIPE,
    )  # fmt: skip
    figures = json.loads((await process.communicate())[0])
    after, said = await parts.cpu(), output.with_suffix(".err").read_text()
    if figures["status"] != 0:
        sys.exit(said[-2000:])
    require_done(parts, json.loads(output.with_suffix(".out").read_text()))
    measured.samples.keys = parts.objects
    measured.samples.seconds.append(await active_seconds(url, said))
    measured.samples.cpu.append(figures["cpu"])
    measured.samples.peak.append(figures["peak"])
    for name in after:
        measured.around.setdefault(name, []).append(after[name] - before[name])


async def until_quiet(seconds: float) -> None:
    """Returns when others leave the cores alone for a second; after so many seconds in any case."""
    for _ in range(round(seconds)):
        before = idle_and_all()
        await asyncio.sleep(1)
        idle, total = (now - then for now, then in zip(idle_and_all(), before, strict=True))
        if idle > _QUIET * total:
            return


def idle_and_all() -> tuple[int, int]:
    """Ticks of all cores (proc(5), ``/proc/stat``)."""
    ticks = [int(field) for field in Path("/proc/stat").read_text().split("\n", 1)[0].split()[1:9]]
    return ticks[3] + ticks[4], sum(ticks)


def require_done(parts: Parts, report: dict[str, Any]) -> None:
    done = report["downloaded"], report["delivered"]
    if done != (parts.objects, parts.objects):
        sys.exit(f"downloaded and delivered: {done} of {parts.objects}")


async def active_seconds(url: str, log: str) -> float:
    """From the partitions' assignment to the last download or delivery that was recorded."""
    lines = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    joined = next(line["timestamp"] for line in lines if line["event"] == "partitions_assigned")
    async with Catalog.open(url) as catalog, reading(catalog) as connection:
        last: datetime = (await connection.execute(select(func.max(events.c.at)))).scalar_one()
    return (last - datetime.fromisoformat(joined)).total_seconds()


def shown(way: Way, measured: Measured) -> str:
    """The last run as one line."""
    samples = measured.samples
    around = ", ".join(f"{name} {spent[-1]:.2f}" for name, spent in measured.around.items())
    return (
        f"  {way}: {samples.keys / samples.seconds[-1]:,.0f} a second, {samples.seconds[-1]:.2f} s; "
        f"CPU s: ingest {samples.cpu[-1]:.2f}, {around}; {samples.peak[-1]:.0f} MB"
    )


def as_section(results: dict[Way, Measured], conditions: str) -> str:
    """The section, and what each part costs."""
    samples = {str(way): measured.samples for way, measured in results.items()}
    text = section(CASE, "Events, from the topic to /v1/verify", conditions, samples, AIMS, of="events")
    names = list(next(iter(results.values())).around)
    lines = [f"| ms of CPU an event | ingest | {' | '.join(names)} |", "|---|---|" + "---|" * len(names)]
    for way, measured in results.items():
        spent = [measured.samples.cpu, *measured.around.values()]
        cells = [f"{1000 * statistics.median(one) / measured.samples.keys:.2f}" for one in spent]
        lines.append(f"| {way} | {' | '.join(cells)} |")
    return f"{text}\n" + "\n".join(lines) + "\n"


async def main(options: argparse.Namespace) -> None:
    # Nothing is removed before the end: for minutes, ext4 looks at every inode that was freed before it gives out one.
    options.work.mkdir(exist_ok=True)
    work = Path(tempfile.mkdtemp(prefix=f"{CASE}-", dir=options.work))
    ways = [way for way in WAYS if not options.ways or str(way) in options.ways]
    results = {way: Measured() for way in ways}
    command = [sys.executable, *(["-m", "cProfile", "-o", options.profile] if options.profile else []), "-m", "ingest"]
    async with running(work, 100 if options.quick else options.events) as parts:
        for number in range(1 if options.quick else options.rounds):
            print(f"round {number + 1}", flush=True)
            for way in ways[number % len(ways) :] + ways[: number % len(ways)]:
                await once(parts, way, results[way], command, options.wait)
                print(shown(way, results[way]), flush=True)
    if not options.keep:
        shutil.rmtree(work, ignore_errors=True)
    conditions = (
        f"{options.rounds} rounds of {options.events:,} objects of {SIZE >> 10} KiB on {datetime.now(UTC):%Y-%m-%d}, "
        "seconds from the partitions' assignment to the last delivery recorded"
    )
    text = as_section(results, conditions)
    print(f"\n{text}")
    if not (options.quick or options.profile or options.ways or options.work != WORK):
        replace(HOME / "RESULTS.md", {CASE: text}, ORDER)


if __name__ == "__main__":
    parser = argparse.ArgumentParser()
    parser.add_argument("--events", type=int, default=5_000)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--ways", nargs="+", default=[], metavar="NAME", help="only these, and nothing is written")
    parser.add_argument("--profile", default="", metavar="FILE", help="of cProfile, and nothing is written")
    parser.add_argument("--work", type=Path, default=WORK, metavar="DIR", help="on another disk; nothing is written")
    parser.add_argument(
        "--wait", type=float, default=0.0, metavar="SECONDS", help="for others to leave the cores alone"
    )
    parser.add_argument("--keep", action="store_true", help="leaves what was written, for whoever measures again soon")
    parser.add_argument("--quick", action="store_true", help="a hundred events, to see that it works")
    asyncio.run(main(parser.parse_args()))
