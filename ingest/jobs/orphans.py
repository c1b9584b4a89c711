"""Files below the bucket's directory that no row names: reported, never removed. Symlinks are named, not followed."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import NamedTuple

from ingest.catalog import runs
from ingest.catalog.copies import copies_named, paths_holding
from ingest.engine.run import Run
from ingest.observe.logs import log
from ingest.store.folding import PROBES, TakenPlaces
from ingest.store.names import from_disk, on_disk
from ingest.store.paths import DIGEST_MARK, decode_path
from ingest.store.scratch import private_database
from ingest.store.walk import FoundFile, walk

_BATCH = 500
_TABLE = "CREATE TABLE suspects (path BLOB PRIMARY KEY, modified REAL) WITHOUT ROWID"
_YOUNG = 600.0
"""Seconds: while another run is at work, a younger file may be one whose row is about to be committed."""


class Orphans(NamedTuple):
    """How many there are, and how many symlinks stand below the bucket's directory."""

    files: int
    symlinks: int


async def find_orphans(run: Run, prefix: str, taken: TakenPlaces | None) -> Orphans:
    """Names every file of a key with `prefix` that the catalog does not say is a copy.

    `taken` are the copies' places on a disk that may list a file by another name than it was made by.

    Memory is flat: what looks like an orphan waits on disk until the end, and is asked for once more then.

    Raises:
        DiskError: a directory cannot be read. InterruptedRun: asked to stop.
    """
    own, symlinks = run.source.directory, 0
    busy = await runs.others_at_work(run.catalog.driver, run.source.id, run.id)
    suspects = _Suspects()
    try:
        found = walk(run.settings.data_dir, own, lambda path: path != PROBES and _may_hold(path, prefix))
        while batch := await asyncio.to_thread(lambda: list(islice(found, _BATCH))):
            run.stop.raise_if_requested()
            batch = [file for file in batch if _in_scope(file.path, prefix)]
            for file in batch:
                if file.is_symlink:
                    symlinks += 1
                    log().warning("symlink_refused", path=f"{own}/{file.path}")
            suspects.add(await _unnamed(run, [file for file in batch if not file.is_symlink]))
        await _drop_shortened(run, suspects)
        if taken is not None:
            for files in suspects.batches():
                suspects.drop([file.path for file in files if taken.knows(f"{own}/{file.path}")])
        return Orphans(await _report(run, suspects, busy=busy), symlinks)
    finally:
        suspects.close()


async def _unnamed(run: Run, files: Sequence[FoundFile]) -> list[FoundFile]:
    """Those that the row of their own key does not name. Nobody else's can: a path decodes to one key."""
    keys = {file.path: _key_of(file.path) for file in files}
    asked = [key for key in keys.values() if key is not None]
    named = await copies_named(run.catalog, run.source.id, asked) if asked else {}
    return [file for file in files if named.get(keys[file.path] or "") != f"{run.source.directory}/{file.path}"]


async def _drop_shortened(run: Run, suspects: _Suspects) -> None:
    """A shortened path does not tell its key: the rows with such paths are read once, and not at all without one."""
    after = ""
    while suspects.some_shortened:
        rows = await paths_holding(run.catalog, run.source.id, DIGEST_MARK, after=after, limit=_BATCH)
        if not rows:
            return
        after = rows[-1][0]
        suspects.drop([path.partition("/")[2] for _, path in rows])


async def _report(run: Run, suspects: _Suspects, *, busy: bool) -> int:
    busy = busy or await runs.others_at_work(run.catalog.driver, run.source.id, run.id)
    orphaned = 0
    for batch in suspects.batches():
        run.stop.raise_if_requested()
        for file in await _unnamed(run, batch):
            if busy and file.modified > time.time() - _YOUNG:
                continue
            orphaned += 1
            log().warning("orphaned", path=f"{run.source.directory}/{file.path}")
    return orphaned


def _key_of(path: str) -> str | None:
    """The key that alone can have this path; None when no row can, or when only the catalog knows."""
    try:
        key = decode_path(path)
        return key if key is None else key.encode().decode()
    except UnicodeEncodeError:
        return None  # a name that is no UTF-8 is none of ours: every key is


def _may_hold(directory: str, prefix: str) -> bool:
    key = _key_of(f"{directory}/")
    return key is None or key.startswith(prefix) or prefix.startswith(key)


def _in_scope(path: str, prefix: str) -> bool:
    """Whether the file's key has the prefix; of a shortened path the part that still can be read decides."""
    key = _key_of(path)
    if key is None:
        readable = path.partition(DIGEST_MARK)[0].rpartition("/")[0]
        key = _key_of(f"{readable}/") if readable else None
    return not prefix or (key is not None and key.startswith(prefix))


@dataclass
class _Suspects:
    """Files that no row named, on disk: there may be as many as there are files."""

    some_shortened: bool = False

    def __post_init__(self) -> None:
        self._connection = private_database(_TABLE)

    def add(self, files: Sequence[FoundFile]) -> None:
        rows = [(on_disk(file.path), file.modified) for file in files]
        self._connection.executemany("INSERT OR REPLACE INTO suspects VALUES (?, ?)", rows)
        self.some_shortened = self.some_shortened or any(DIGEST_MARK in file.path for file in files)

    def drop(self, paths: Sequence[str]) -> None:
        self._connection.executemany("DELETE FROM suspects WHERE path = ?", [(on_disk(path),) for path in paths])

    def batches(self) -> Iterator[list[FoundFile]]:
        after = b""
        query = "SELECT path, modified FROM suspects WHERE path > ? ORDER BY path LIMIT ?"
        while rows := self._connection.execute(query, (after, _BATCH)).fetchall():
            after = rows[-1][0]
            yield [FoundFile(from_disk(path), is_symlink=False, modified=modified) for path, modified in rows]

    def close(self) -> None:
        self._connection.close()
