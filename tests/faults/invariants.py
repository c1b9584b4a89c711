"""What must be true after every fault (I1 to I7), checked on the real files and the real catalog."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from hashlib import md5
from pathlib import Path
from typing import Any, NamedTuple

from sqlalchemy import select

from ingest.catalog.catalog import Catalog
from ingest.catalog.tables import events, objects, runs, sources
from ingest.errors import ExitCode
from ingest.model import Counts, RunReport
from ingest.settings import Settings
from ingest.store.paths import decode_path

SECRET = "canary-4c1d-secret"
"""The secret key that every faulty run signs with: it may stand nowhere."""


class Snapshot(NamedTuple):
    """What a run leaves, without its times: rows by key, files by path with their MD5."""

    rows: dict[str, dict[str, Any]]
    files: dict[str, str]
    complete: bool
    """The catalog notes a complete sync."""


_TIMES = ("source_id", "downloaded_at", "gone_at", "pruned_at")


def files_below(directory: Path) -> dict[str, str]:
    if directory.is_symlink():
        return {}
    return {
        path.relative_to(directory).as_posix(): md5(path.read_bytes()).hexdigest()
        for path in directory.rglob("*")
        if path.is_file() and not path.is_symlink()
    }


def temporaries(settings: Settings) -> list[str]:
    return sorted(os.listdir(settings.own_dir / "tmp")) if (settings.own_dir / "tmp").is_dir() else []


async def snapshot(settings: Settings) -> Snapshot:
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, catalog.reading() as connection:
        found = [dict(row._mapping) for row in await connection.execute(select(objects))]
        ends = (await connection.execute(select(sources.c.last_complete_sync))).scalars().all()
    rows = {
        row["key"]: {name: value for name, value in row.items() if name not in _TIMES}
        | {"gone": row["gone_at"] is not None}
        for row in found
    }
    return Snapshot(rows, files_below(settings.data_dir / settings.bucket), any(ends))


def check_files(settings: Settings, versions: Mapping[str, Iterable[bytes]]) -> None:
    """I1: a final path holds the whole of one version of its object, and nothing else."""
    whole = {key: {md5(body).hexdigest() for body in bodies} for key, bodies in versions.items()}
    for path, digest in files_below(settings.data_dir / settings.bucket).items():
        assert digest in whole.get(decode_path(path) or "", ()), f"{path} is no version of its object"


async def check_rows(settings: Settings) -> None:
    """I2: every row that says `present` has its file, with the bytes of the row's digest, size and etag."""
    found = await snapshot(settings)
    for key, row in found.rows.items():
        if row["state"] != "present":
            continue
        path = settings.data_dir / row["local_path"]
        body = path.read_bytes()
        digest = md5(body).hexdigest()
        assert (f"md5:{digest}", digest, len(body)) == (row["digest"], row["etag"], row["size"]), key


def check_sums(counts: Counts) -> None:
    """I3: every listed object was decided, and every wanted one came or failed."""
    assert counts.listed == counts.new + counts.changed + counts.unchanged + counts.skipped, counts
    assert counts.new + counts.changed == counts.downloaded + counts.failed, counts


async def check_reasons(settings: Settings, report: RunReport) -> None:
    """I3: the run's row says the same, and each failure has its reason in the audit trail."""
    async with Catalog.open(settings.database_url.get_secret_value()) as catalog, catalog.reading() as connection:
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
