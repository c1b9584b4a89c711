"""What is on disk and in the catalog, and whether it is as it must be: I1 to I5 of the faults that must be survived."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sqlalchemy import select

from ingest.catalog.catalog import Catalog
from ingest.catalog.queries import check_chain
from ingest.catalog.tables import events, objects, sources
from ingest.model import RunReport
from ingest.store.paths import decode_path
from tests.faults.memory_s3 import MemoryS3

_TIMES = ("last_modified", "downloaded_at", "pruned_at", "gone_at")


@dataclass(frozen=True)
class Seen:
    """One look at a data directory and its database."""

    files: dict[str, bytes]
    temporaries: list[str]
    rows: dict[str, dict[str, Any]]
    trail: dict[str, list[tuple[str, str]]]
    """For each key, what happened to it."""
    is_complete: bool
    broken_links: list[int]

    def assert_whole(self, server: MemoryS3) -> None:
        """I1, I2: files are whole, and every present row has its file.

        Between the rename of a new version and its row, the row still tells of the old one.
        """
        whole = {body for versions in server.versions.values() for body in versions}
        for path, body in self.files.items():
            assert body in whole, f"{path} is not a version that there ever was"
        for row in self.rows.values():
            if row["state"] == "present" and not row["pruned_at"]:
                assert self.files.get(row["local_path"]) in server.versions[row["key"]], row["key"]
        assert self.broken_links == []

    def assert_settled(self) -> None:
        """I2, when nothing is under way: every present row has its file, byte for byte; and I5."""
        present = {
            row["local_path"]: row["digest"]
            for row in self.rows.values()
            if row["state"] == "present" and not row["pruned_at"]
        }
        for path, digest in present.items():
            assert path in self.files, f"{path} is recorded as present, and is not there"
            assert digest == "md5:" + hashlib.md5(self.files[path]).hexdigest(), path
        assert set(self.files) == set(present), "a file without its row"
        assert self.temporaries == []

    def assert_same(self, end: Seen) -> None:
        """I4: the state of a run that was never killed; which of `a` and `a/b` is the escaped one depends on who came
        first. Pages are remembered by a run that knows the server's order, which the first run learns.
        """
        assert self.by_key() == end.by_key()
        assert self._rows() == end._rows()
        assert self.trail == end.trail
        assert self.is_complete == end.is_complete

    def by_key(self) -> dict[str | None, bytes]:
        """The files by the keys that their paths stand for; each key has one file."""
        found = {decode_path(path.partition("/")[2]): body for path, body in self.files.items()}
        assert len(found) == len(self.files)
        return found

    def _rows(self) -> list[dict[str, Any]]:
        return [{**row, "local_path": bool(row["local_path"])} for _, row in sorted(self.rows.items())]


async def look(server: MemoryS3, data_dir: Path, url: str) -> Seen:
    settings = server.bucket.settings(data_dir, database_url=url)
    root = data_dir / settings.bucket
    files = {path.relative_to(data_dir).as_posix(): path.read_bytes() for path in root.rglob("*") if path.is_file()}
    own = data_dir / ".ingest" / "tmp"
    temporaries = sorted(path.name for path in own.iterdir()) if own.exists() else []
    trail: dict[str, list[tuple[str, str]]] = defaultdict(list)
    async with Catalog.open(url) as catalog:
        async with catalog.reading() as connection:
            rows = [dict(row._mapping) for row in await connection.execute(select(objects))]
            for event in await connection.execute(select(events).order_by(events.c.id)):
                trail[event.key].append((event.what, event.detail))
            completed = (await connection.execute(select(sources.c.last_complete_sync))).scalars().all()
        broken = await check_chain(catalog)
    for row in rows:
        row.update({name: row[name] is not None for name in _TIMES})
    return Seen(
        files,
        temporaries,
        {row["key"]: row for row in rows},
        dict(trail),
        any(completed),
        broken,
    )


def assert_counts_add_up(report: RunReport) -> None:
    """I3."""
    counts = report.counts
    assert counts.listed == counts.new + counts.changed + counts.unchanged + counts.skipped
    assert counts.new + counts.changed <= counts.downloaded + counts.failed
