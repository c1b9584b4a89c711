"""Times `ingest` against its rivals, round by round in turn, on one embedded server: ``make bench``.

Each case runs every contender once a round, so that a drift of the machine's speed meets all of them alike. Figures are
medians; memory is the peak of the process and its children. To add a rival, add it to `rivals`.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import platform
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from ingest.demo.server import ACCESS_KEY, SECRET_KEY, Server, serve
from ingest.settings import Settings
from ingest.source.client import S3Client

HOME = Path(__file__).resolve().parent
BUCKET = "bench"


@dataclass
class Contender:
    """One tool: its command for copying the bucket into a directory, and what must be in its environment."""

    name: str
    command: Callable[[Server, Path], list[str]]
    variables: Callable[[Server, Path], dict[str, str]]
    seconds: list[float] = field(default_factory=list)
    cpu: list[float] = field(default_factory=list)
    peak: list[float] = field(default_factory=list)

    def run(self, server: Server, target: Path) -> None:
        """One run, whose wall seconds, CPU seconds and peak memory (MB) are kept."""
        started = time.monotonic()
        process = subprocess.Popen(
            self.command(server, target),
            env={**os.environ, **self.variables(server, target)},
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
        )
        _, status, usage = os.wait4(process.pid, 0)
        self.seconds.append(time.monotonic() - started)
        if status != 0:
            said = process.stderr.read().decode(errors="replace")[-500:] if process.stderr else ""
            raise SystemExit(f"{self.name} failed with {os.waitstatus_to_exitcode(status)}: {said}")
        self.cpu.append(usage.ru_utime + usage.ru_stime)
        self.peak.append(usage.ru_maxrss / 1024)


def aws_variables(_server: Server, _target: Path) -> dict[str, str]:
    return {"AWS_ACCESS_KEY_ID": ACCESS_KEY, "AWS_SECRET_ACCESS_KEY": SECRET_KEY, "AWS_REGION": "us-east-1"}


def ingest_variables(server: Server, target: Path) -> dict[str, str]:
    return {
        "S3_ENDPOINT": server.endpoint,
        "S3_BUCKET": BUCKET,
        "S3_ACCESS_KEY": ACCESS_KEY,
        "S3_SECRET_KEY": SECRET_KEY,
        "INGEST_DATA_DIR": str(target),
    }


def rivals() -> list[Contender]:
    """`ingest` first: the ratios are its own against each other one."""
    tools = HOME / ".venv" / "bin"

    def rclone(server: Server, target: Path) -> list[str]:
        remote = f":s3,provider=SeaweedFS,env_auth=true,endpoint='{server.endpoint}':{BUCKET}"
        return [str(tools / "rclone"), "copy", "--transfers", "32", "--checkers", "32", remote, str(target)]

    def s5cmd(server: Server, target: Path) -> list[str]:
        source = f"s3://{BUCKET}/*"
        return [str(tools / "s5cmd"), "--endpoint-url", server.endpoint, "sync", source, f"{target}/"]

    def ingest(_server: Server, _target: Path) -> list[str]:
        return [sys.executable, "-m", "ingest", "sync", "-q"]

    return [
        Contender("ingest sync", ingest, ingest_variables),
        Contender("rclone copy", rclone, aws_variables),
        Contender("s5cmd sync", s5cmd, aws_variables),
    ]


async def fill(server: Server, count: int, size: int) -> None:
    """Puts `count` objects of `size` random bytes under a hundred prefixes."""
    settings = Settings.model_validate(
        {"endpoint": server.endpoint, "bucket": BUCKET, "access_key": ACCESS_KEY, "secret_key": SECRET_KEY}
    )
    limit = asyncio.Semaphore(32)
    async with S3Client(settings) as client:

        async def put(number: int) -> None:
            async with limit:
                await client.put(f"statements/{number % 100:02}/{number:06}.pdf", os.urandom(size))

        await asyncio.gather(*(put(number) for number in range(count)))


def measure(server: Server, rounds: int, *, again: bool) -> list[Contender]:
    """Copies afresh in each round; with `again`, times the second run, which finds nothing to do."""
    contenders = rivals()
    for _ in range(rounds):
        for contender in contenders:
            target = HOME / "work" / "target"
            shutil.rmtree(target, ignore_errors=True)
            target.mkdir(parents=True)
            contender.run(server, target)
            if again:
                for figures in (contender.seconds, contender.cpu, contender.peak):
                    figures.pop()
                contender.run(server, target)
            shutil.rmtree(target)
    return contenders


def table(title: str, contenders: list[Contender]) -> str:
    """One case as Markdown."""
    own = statistics.median(contenders[0].seconds)
    lines = [
        f"## {title}",
        "",
        "| tool | seconds (min to max) | ingest / tool | CPU s | peak MB |",
        "|---|---|---|---|---|",
    ]
    for contender in contenders:
        middle = statistics.median(contender.seconds)
        spread = f"{middle:.2f} ({min(contender.seconds):.2f} to {max(contender.seconds):.2f})"
        cpu, peak = statistics.median(contender.cpu), max(contender.peak)
        lines.append(f"| {contender.name} | {spread} | {own / middle:.2f} | {cpu:.2f} | {peak:.0f} |")
    return "\n".join(lines) + "\n"


async def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--objects", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    work = HOME / "work"
    shutil.rmtree(work, ignore_errors=True)
    async with serve(work / "server", BUCKET) as server:
        await fill(server, options.objects, 16 << 10)
        cases = [
            table(
                f"{options.objects:,} objects of 16 KiB, {kind}",
                await asyncio.to_thread(measure, server, options.rounds, again=again),
            )
            for kind, again in (("fresh", False), ("nothing to do", True))
        ]
    shutil.rmtree(work, ignore_errors=True)
    machine = f"{os.cpu_count()} cores shared with the server, {platform.system()} {platform.machine()}, plain HTTP"
    text = f"# Results\n\n{options.rounds} interleaved rounds; {machine}. `ingest` checks and records; medians.\n\n"
    text += "\n".join(cases)
    (HOME / "RESULTS.md").write_text(text, encoding="utf-8")
    print(text)


if __name__ == "__main__":
    asyncio.run(main())
