"""What must be true after every fault, checked on the real files and the real catalog.

I1: a final path only ever holds complete, checked bytes of one version. I2: a row says ``present`` only when file, rename
and directory are durable; a copy is pruned by intent, unlink, done. I3: the counts add up: listed = new + changed +
unchanged + skipped, and new + changed = downloaded + adopted + failed, each failure with its reason. I4: when the fault is
gone, one more run ends in the state of a run that never saw it. I5: no temporary file of ours is left then, and only ours
are ever swept. I6: nothing outside the data directory is read, written or removed. I7: one plain line names the cause and
what to do, the exit code is the documented one, and no secret is in any output.
"""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select

from ingest.catalog.audit import broken_links
from ingest.catalog.catalog import Catalog
from ingest.catalog.schema.tables import events, objects, runs, sources
from ingest.errors import ExitCode
from ingest.model import RunReport
from ingest.settings import Settings
from ingest.store.paths import decode_path
from ingest.testing.memory_s3 import Stored
from tests.fixtures.catalogs import reading

SECRET = "canary-4c1d-secret"
"""The secret key that every faulty run signs with: it may stand nowhere."""

Versions = Mapping[str, Iterable[bytes]]
"""Every body that a key ever had."""

_TIMES = ("downloaded_at", "pruned_at", "gone_at")


class Copy(NamedTuple):
    size: int
    md5: str

    @classmethod
    def of(cls, body: bytes) -> Copy:
        return cls(len(body), md5(body).hexdigest())


@dataclass(frozen=True)
class Seen:
    """One look at a data directory and its catalog. Times of our own clock are told as whether there is one."""

    files: dict[str, Copy]
    """By their paths below the data directory."""
    temporaries: list[str]
    rows: dict[str, dict[str, Any]]
    trail: dict[str, list[tuple[str, str]]]
    """For each key, what happened to it."""
    is_complete: bool
    """The catalog notes a complete sync."""
    broken_links: list[int]

    @property
    def copies(self) -> dict[str, dict[str, Any]]:
        """The rows of copies that are there to stay."""
        return {key: row for key, row in self.rows.items() if row["state"] == "present" and not row["pruned_at"]}

    def assert_whole(self, versions: Versions) -> None:
        """I1, I2: files are whole, and every present row has its file.

        Between the rename of a new version and its row, the row still tells of the old one.
        """
        assert_versions(self.files, versions)
        for key, row in self.copies.items():
            assert self.files.get(row["local_path"]) in [Copy.of(body) for body in versions[key]], key
        assert self.broken_links == []

    def assert_recorded(self) -> None:
        """I2: every present row has its file, with the bytes of the row's digest, size and etag."""
        for key, row in self.copies.items():
            assert row["local_path"] in self.files, f"{key} is recorded as present, and is not there"
            size, digest = self.files[row["local_path"]]
            assert (f"md5:{digest}", digest, size) == (row["digest"], row["etag"], row["size"]), key

    def assert_settled(self) -> None:
        """I2 and I5, when nothing is under way: nor is there any other file, also where a pruned copy was."""
        self.assert_recorded()
        pruned = {row["local_path"] for row in self.rows.values() if row["state"] == "pruned"}
        assert pruned.isdisjoint(self.files), "a pruned copy that stands there"
        assert set(self.files) == {row["local_path"] for row in self.copies.values()}, "a file without its row"
        assert self.temporaries == []

    def assert_same(self, end: Seen, *, places: bool = True) -> None:
        """I4: the state of a run that never saw the fault.

        Without `places`, copies may lie elsewhere: which of `a` and `a/b` is the escaped one depends on who came first.
        """
        assert by_key(self.files) == by_key(end.files)
        assert self._rows(places) == end._rows(places)
        assert self.is_complete == end.is_complete

    def _rows(self, places: bool) -> list[dict[str, Any]]:
        """Without the number of their source, of which there is one, what a listing showed when a copy was taken, and
        which run was the last to see what."""
        assert len({row["source_id"] for row in self.rows.values()}) <= 1
        kept: dict[str, Any] = dict.fromkeys(("listed_etag", "seen", "seen_at", "seen_in"))
        kept |= {} if places else {"local_path": None}
        return [
            {**row, "source_id": 0, "placed": bool(row["local_path"]), **kept} for _, row in sorted(self.rows.items())
        ]


def files_of(settings: Settings) -> dict[str, Copy]:
    """Every copy, recorded or not, by its path below the data directory."""
    directory = settings.data_dir / settings.bucket
    if directory.is_symlink():
        return {}
    return {
        path.relative_to(settings.data_dir).as_posix(): Copy.of(path.read_bytes())
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def by_key(files: Mapping[str, Copy]) -> dict[str | None, Copy]:
    """The files by the keys that their paths stand for; each key has one file."""
    found = {decode_path(path.partition("/")[2]): copy for path, copy in files.items()}
    assert len(found) == len(files), "two files of one key"
    return found


def copies_of(objects: Mapping[str, Stored]) -> dict[str | None, Copy]:
    """What the copies of these objects are, by their keys."""
    return {key: Copy.of(stored.body) for key, stored in objects.items()}


def temporaries(settings: Settings) -> list[str]:
    return sorted(os.listdir(settings.own_dir / "tmp")) if (settings.own_dir / "tmp").is_dir() else []


async def look(settings: Settings) -> Seen:
    trail: dict[str, list[tuple[str, str]]] = defaultdict(list)
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog:
        async with reading(catalog) as connection:
            rows = [dict(row._mapping) for row in await connection.execute(select(objects))]
            for event in await connection.execute(select(events).order_by(events.c.id)):
                trail[event.key].append((event.what, event.detail))
            completed = (await connection.execute(select(sources.c.last_complete_sync))).scalars().all()
        broken = await broken_links(catalog.driver)
    for row in rows:
        row.update({name: row[name] is not None for name in _TIMES})
    by_name = {row["key"]: row for row in rows}
    return Seen(files_of(settings), temporaries(settings), by_name, dict(trail), any(completed), broken)


def assert_versions(files: Mapping[str, Copy], versions: Versions) -> None:
    """I1: a final path holds the whole of one version of its object, and nothing else."""
    for key, copy in by_key(files).items():
        assert copy in map(Copy.of, versions.get(key or "", ())), f"{key} has a copy that is no version of it"


def check_sums(report: RunReport) -> None:
    """I3: every listed object was decided, and every wanted one came or failed."""
    counts = report.counts
    assert counts.listed == counts.new + counts.changed + counts.unchanged + counts.skipped, counts
    if report.command in ("sync", "backfill"):
        assert counts.new + counts.changed == counts.downloaded + counts.adopted + counts.failed, counts
    else:  # wants what it was told to, and lists nothing
        assert counts.listed == counts.new + counts.changed == 0, counts


async def check_reasons(settings: Settings, report: RunReport) -> None:
    """I3: the run's row says the same, and each failure has its reason in the audit trail."""
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, reading(catalog) as connection:
        run = (await connection.execute(select(runs).where(runs.c.id == report.run_id))).one()
        query = select(events.c.detail).where(events.c.run_id == report.run_id, events.c.what == "failed")
        reasons = (await connection.execute(query)).scalars().all()
    assert (run.status, run.error) == (report.status, report.error.message if report.error else None)
    assert run.counts == {name: getattr(report.counts, name) for name in run.counts}
    assert len(reasons) == report.counts.failed
    assert all('"error"' in reason for reason in reasons)


def check_said(report: RunReport) -> None:
    """I7: the error's own exit code; one plain line, what to do about it, and no secret."""
    if report.error is not None:
        assert report.exit_code == report.error.exit_code
        check_line(report.error.message)
        check_line(report.error.hint)
    else:
        assert report.exit_code == (ExitCode.PARTIAL if report.counts.failed else ExitCode.OK)


def check_line(text: str) -> None:
    assert text
    assert text.isprintable()
    assert "Traceback" not in text
    assert SECRET not in text


def tree(directory: Path, without: Sequence[Path]) -> Iterator[tuple[str, int, str]]:
    """I6: everything below `directory` apart from `without`, to be compared with what it was before."""
    for path in sorted(directory.rglob("*")):
        if any(path == left_out or left_out in path.parents for left_out in without):
            continue
        status = path.lstat()
        target = os.readlink(path) if path.is_symlink() else ""
        yield str(path), status.st_mode, target or (md5(path.read_bytes()).hexdigest() if path.is_file() else "")
