"""What is timed, and what makes a run count: each kind of case prepares, starts from the same state, and checks."""

from __future__ import annotations

import json
import os
import shutil
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import NamedTuple

from benchmarks import databases
from benchmarks.keyspace import CUTOFF, EVERY
from benchmarks.rivals import Contender, ingest
from benchmarks.workshop import Source
from ingest.source.client import S3Client

_NEXT_TO_NOTHING = 100
"""Files whose removal nobody notices."""
_ROOM = 12 << 30
"""Bytes that must be free, or earlier targets go."""

Execute = Callable[[Contender, Source, Path], Awaitable[str]]
"""Runs a contender, untimed, and returns what it printed; raises `Wrong` when it fails."""

EVERYTHING = ingest("sync", name="ingest sync")
EVERYTHING_ON_POSTGRES = ingest("sync", name="ingest sync, PostgreSQL", postgres=True)
KNOWN = ingest("sync", "--newer-than", CUTOFF, name="ingest sync --newer-than")
KNOWN_ON_POSTGRES = ingest("sync", "--newer-than", CUTOFF, name="ingest sync --newer-than, PostgreSQL", postgres=True)


class Wrong(Exception):
    """A run that did not do its work, and must not be timed."""


class Tree(NamedTuple):
    """What a directory holds. `newest` is the latest change of any file (nanoseconds)."""

    files: int = 0
    size: int = 0
    newest: int = 0


class Trial(ABC):
    """One kind of case. `work` is a directory for what lasts beyond a run."""

    def __init__(self, work: Path, execute: Execute) -> None:
        self.work = work
        self._execute = execute

    async def prepare(self, contender: Contender, source: Source) -> None:  # noqa: B027 - most need nothing
        """Once for each contender, before its first run."""

    @abstractmethod
    async def begin(self, source: Source) -> Path:
        """The target of the next run, with its catalog, in the state that every contender starts from."""

    @abstractmethod
    def check(self, contender: Contender, source: Source, target: Path, said: str) -> int:
        """Raises `Wrong` when the run did not do its work. Returns how many keys it has gone through."""

    async def _ready(self, source: Source, like: Path | None = None) -> Path:
        """An empty directory and catalog, or a copy of those of `like`.

        Earlier ones stay to the end, while the disk has room and unless they hold next to nothing. For minutes after a
        file was removed, ext4 looks at its inode again with each file that is made beside it (`recently_deleted`):
        making ten thousand files after removing as many takes seconds more, for every tool.
        """
        targets = self.work / "targets"
        targets.mkdir(parents=True, exist_ok=True)
        earlier = sorted(targets.iterdir(), key=lambda path: int(path.name))
        short = shutil.disk_usage(targets).free < _ROOM
        for path in earlier:
            if short or tree(path).files <= _NEXT_TO_NOTHING:
                shutil.rmtree(path)
        target = targets / str(int(earlier[-1].name) + 1 if earlier else 0)
        if like is None:
            target.mkdir()
        else:
            shutil.copytree(like, target)
        if source.postgres:
            await databases.make(source.postgres, target, like)
        return target


class Fresh(Trial):
    """Copies everything into an empty directory."""

    async def begin(self, source: Source) -> Path:
        source.set()
        return await self._ready(source)

    def check(self, contender: Contender, source: Source, target: Path, said: str) -> int:
        found = tree(target / source.bucket)
        require(found[:2] == (source.objects, source.size), f"{found.files} files of {found.size} bytes in all")
        summary_of(contender, said, listed=source.objects, downloaded=source.objects)
        return source.objects


class Unchanged(Trial):
    """Finds nothing to do, in one tree for all, whose files have the objects' sizes and times."""

    def __init__(self, work: Path, execute: Execute) -> None:
        super().__init__(work, execute)
        self._trees: dict[str, Tree] = {}

    async def prepare(self, contender: Contender, source: Source) -> None:
        source.set()
        target = self._target(source)
        if not target.exists():
            target.mkdir(parents=True)
            await self._execute(EVERYTHING, source, target)
            await date_as_listed(source, target)
        if not contender.reports:
            await self._check_order(contender, source, target)
        else:
            await self._execute(contender, source, target)
        self._trees[source.endpoint + source.bucket] = tree(target / source.bucket)

    async def begin(self, source: Source) -> Path:
        source.set()
        return self._target(source)

    def check(self, contender: Contender, source: Source, target: Path, said: str) -> int:
        before, found = self._trees[source.endpoint + source.bucket], tree(target / source.bucket)
        require(found.files == source.objects, f"{found.files} files")
        require(found == before, "files have changed, with nothing to do")
        summary_of(contender, said, listed=source.objects, downloaded=0)
        return source.objects

    async def _check_order(self, contender: Contender, source: Source, target: Path) -> None:
        """Lets a silent tool bring back one missing file, so that its silence means something."""
        path = next(found for found in (target / source.bucket).rglob("*") if found.is_file())
        before = path.stat()
        path.unlink()
        await self._execute(contender, source, target)
        require(path.is_file() and path.stat().st_size == before.st_size, "does not bring back a missing file")
        os.utime(path, ns=(before.st_mtime_ns, before.st_mtime_ns))

    def _target(self, source: Source) -> Path:
        return self.work / f"copied-{source.bucket}-{source.objects}"


class Status(Unchanged):
    """Asks the catalog of everything copied."""

    def check(self, contender: Contender, source: Source, target: Path, said: str) -> int:
        found = json.loads(said)
        require(found["objects"] == source.objects, f"{found['objects']} objects")
        return source.objects


class Recorded(Trial):
    """Lists a bucket never seen before, and records every key as known, wanting none."""

    async def begin(self, source: Source) -> Path:
        target = await self._ready(source)
        source.set()
        return target

    def check(self, contender: Contender, source: Source, target: Path, said: str) -> int:
        summary_of(contender, said, listed=source.objects, downloaded=0)
        return source.objects


class Known(Recorded):
    """Lists a bucket again whose every key is known and not wanted."""

    async def prepare(self, contender: Contender, source: Source) -> None:
        target = self._catalog(source)
        if not target.exists():
            target.mkdir(parents=True)
            if source.postgres:
                await databases.make(source.postgres, target)
            source.set(delay=0.0)
            for _ in range(2):
                await self._execute(KNOWN_ON_POSTGRES if source.postgres else KNOWN, source, target)

    async def begin(self, source: Source) -> Path:
        source.set()
        return self._catalog(source)

    def _catalog(self, source: Source) -> Path:
        return self.work / f"known-{source.objects}{'-postgres' if source.postgres else ''}"


class WithNew(Known):
    """Lists a bucket whose every page has a new key among known ones, and downloads these."""

    async def begin(self, source: Source) -> Path:
        target = await self._ready(source, like=self._catalog(source))
        source.set(new=True)
        return target

    def check(self, contender: Contender, source: Source, target: Path, said: str) -> int:
        new = (source.objects + EVERY // 2) // EVERY
        found = tree(target / source.bucket)
        require(found.files == new, f"{found.files} files")
        summary_of(contender, said, listed=source.objects + new, downloaded=new)
        return source.objects + new


def require(condition: bool, otherwise: str) -> None:
    if not condition:
        raise Wrong(otherwise)


def summary_of(contender: Contender, said: str, *, listed: int, downloaded: int) -> None:
    """Checks the summary of a tool that prints one."""
    if not contender.reports:
        return
    found = json.loads(said)
    counted = found["status"], found["listed"], found["downloaded"]
    require(counted == ("ok", listed, downloaded), f"status, listed, downloaded: {counted}")


def tree(directory: Path) -> Tree:
    """What is in a directory and below."""
    files = size = newest = 0
    open_ones = [str(directory)] if directory.exists() else []
    while open_ones:
        with os.scandir(open_ones.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    open_ones.append(entry.path)
                else:
                    found = entry.stat(follow_symlinks=False)
                    files, size, newest = files + 1, size + found.st_size, max(newest, found.st_ctime_ns)
    return Tree(files, size, newest)


async def date_as_listed(source: Source, target: Path) -> None:
    """Gives each copy the time of its object, as rivals do and expect."""
    async with S3Client(source.settings(target)) as client:
        async for remote in client.list_objects():
            moment = remote.last_modified.timestamp()
            os.utime(target / source.bucket / remote.key, (moment, moment))
