"""Times `ingest` against its rivals, case by case, the contenders in turn: ``make bench``.

A drift of the machine's speed meets all contenders of a round alike, and who begins changes with the round. A run that
did not do its work is not timed: the contender is out of that case. The sections of the cases that ran are replaced in
``benchmarks/RESULTS.md``; a quick run writes into its work directory instead.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import mmap
import os
import platform
import shutil
import subprocess
import sys
import time
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

from benchmarks.cases import CASES, ORDER, Case
from benchmarks.report import Samples, section, write
from benchmarks.rivals import HOME, TOOLS, Contender, environment
from benchmarks.trials import Trial, Wrong
from benchmarks.workshop import Source, Workshop

_LONGEST_SECONDS = 900
_MOST_WARM = 3 << 30
"""Bytes."""


async def run(contender: Contender, source: Source, target: Path) -> tuple[dict[str, float], str]:
    """One run: what it took, and what it printed. Raises `Wrong` when it fails."""
    home = HOME / "work" / "home"
    home.mkdir(parents=True, exist_ok=True)
    output = home / "output"
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-I", "-S", str(HOME / "measure.py"), str(_LONGEST_SECONDS), str(output),
        *contender.command(source, target),
        cwd=home, env=environment(contender, source, target, home), stdout=subprocess.PIPE,
    )  # fmt: skip
    try:
        figures: dict[str, float] = json.loads((await process.communicate())[0])
    finally:
        if process.returncode is None:  # we are interrupted, and the contender with us
            process.terminate()
            await process.wait()
    if figures["status"] != 0:
        said = output.with_suffix(".err").read_text(encoding="utf-8", errors="replace").strip()
        raise Wrong(f"exit {figures['status']:.0f}: {' '.join(said.split())[-300:]}")
    return figures, output.with_suffix(".out").read_text(encoding="utf-8", errors="replace")


async def execute(contender: Contender, source: Source, target: Path) -> str:
    started = time.monotonic()
    _, said = await run(contender, source, target)
    print(f"    prepared by {contender.name} in {time.monotonic() - started:.1f} s", flush=True)
    return said


class Race:
    """One case, run."""

    def __init__(self, case: Case, workshop: Workshop) -> None:
        self._case = case
        self._workshop = workshop
        self._trial: Trial = case.trial(HOME / "work", execute)
        self.results = {contender.name: Samples() for contender in case.contenders}

    async def run(self, rounds: int) -> None:
        for contender in self._case.contenders:
            await self._attempt(contender, 0)
        for number in range(1, rounds + 1):
            turn = (number - 1) % len(self._case.contenders)
            for contender in (*self._case.contenders[turn:], *self._case.contenders[:turn]):
                await self._attempt(contender, number)

    async def _attempt(self, contender: Contender, number: int) -> None:
        samples = self.results[contender.name]
        if samples.failure:
            return
        try:
            source = await self._workshop.source(contender.bucket or self._case.bucket)
            if contender.postgres:
                source = replace(source, postgres=self._workshop.postgres())
            if number == 0:
                await self._trial.prepare(contender, source)
            else:
                await self._once(contender, source, samples, number)
        except Wrong as error:
            samples.failure = str(error)
            print(f"  {contender.name} failed: {error}", flush=True)

    async def _once(self, contender: Contender, source: Source, samples: Samples, number: int) -> None:
        target = await self._trial.begin(source)
        os.sync()  # what was written before is not to be written in somebody's time
        warm(source.size)
        figures, said = await run(contender, source, target)
        samples.keys = self._trial.check(contender, source, target, said)
        samples.seconds.append(figures["seconds"])
        samples.cpu.append(figures["cpu"])
        samples.peak.append(figures["peak"])
        print(
            f"  round {number}: {contender.name}: {figures['seconds']:.2f} s, {figures['cpu']:.2f} s of CPU, "
            f"{figures['peak']:.0f} MB",
            flush=True,
        )


def warm(size: int) -> None:
    """Has memory for `size` bytes at hand, as a machine has that is not virtual.

    A virtual one may have given what is free back to its host: then each gibibyte that is written takes two seconds
    more, and whom that meets is chance.
    """
    if size:
        populated = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | mmap.MAP_POPULATE
        mmap.mmap(-1, min(2 * size, _MOST_WARM), flags=populated).close()


def heading() -> str:
    """The machine and the versions of the rivals."""
    versions = []
    for name, arguments in (("rclone", ["version"]), ("s5cmd", ["version"]), ("aws", ["--version"])):
        said = subprocess.run([TOOLS / name, *arguments], capture_output=True, text=True, check=True).stdout
        versions.append(f"{name} {said.split()[1] if name == 'rclone' else said.split()[0]}")
    machine = f"{os.cpu_count()} cores shared with the server, {platform.system()} {platform.machine()}"
    return (
        "# Results\n\n"
        f"{machine}, Python {platform.python_version()}; {', '.join(versions)}.\n"
        "`ingest` checks and records with its default flags; medians of interleaved rounds, memory of the whole "
        "process tree.\nWritten by `make bench`.\n"
    )


def chosen(names: list[str]) -> list[Case]:
    known = {case.name: case for case in CASES}
    unknown = [name for name in names if name not in known]
    if unknown:
        raise SystemExit(f"no such case: {', '.join(unknown)}; there are {', '.join(known)}")
    return [known[name] for name in names] if names else list(CASES)


async def race(cases: list[Case], rounds: int | None, *, quick: bool) -> bool:
    """Runs the cases and writes their sections, each as it ends. Returns whether every contender did its work."""
    work = HOME / "work"
    shutil.rmtree(work, ignore_errors=True)
    results = work / "RESULTS.md" if quick else HOME / "RESULTS.md"
    sound = True
    async with Workshop(work / "workshop", quick=quick) as workshop:
        for case in cases:
            print(case.name, flush=True)
            number = rounds or (1 if quick else case.rounds)
            running = Race(case, workshop)
            await running.run(number)
            sound = sound and not any(samples.failure for samples in running.results.values())
            conditions = f"{number} rounds on {datetime.now(UTC):%Y-%m-%d}" + (", small" if quick else "")
            text = section(case.name, case.title, conditions, running.results, case.aims)
            write(results, heading(), {case.name: text}, ORDER)
            print(f"\n{text}", flush=True)
    if not quick:
        shutil.rmtree(work, ignore_errors=True)
    return sound


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else None)
    parser.add_argument("--cases", nargs="+", default=[], metavar="NAME", help="only these")
    parser.add_argument("--rounds", type=int, metavar="N", help="instead of each case's own number")
    parser.add_argument("--quick", action="store_true", help="a fiftieth of everything, to see that all cases work")
    parser.add_argument("--list", action="store_true", help="name the cases")
    options = parser.parse_args()
    if options.list:
        for case in CASES:
            print(f"{case.name:22} {case.rounds} rounds  {case.title}")
        return
    if not asyncio.run(race(chosen(options.cases), options.rounds, quick=options.quick)):
        raise SystemExit("a contender failed; see above")


if __name__ == "__main__":
    main()
