"""What is swept of the temporary files, and what a later run may still go on with."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.errors import DiskError
from ingest.store.files import FileStore
from ingest.store.partials import KEPT_SECONDS
from ingest.store.resume_notes import Identity
from ingest.store.temporaries import OWNER

OBJECT = Identity("statements", "large", "e", 300, None, 100)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[FileStore]:
    found = FileStore(tmp_path, "statements")
    yield found
    found.close()


def names(store: FileStore) -> list[str]:
    return sorted(path.suffix for path in (store.data_dir / ".ingest" / "tmp").iterdir() if path.suffix != OWNER)


def leave(store: FileStore, identity: Identity = OBJECT, *, piece: bool = True) -> None:
    partial = store.partials.open(identity, 3, resumable=True)
    if piece:
        partial.write(0, [b"x" * 60, b"y" * 40])
        partial.finish_piece(0, 0, 100)
    store.partials.leave(partial)


def test_a_partial_is_kept_for_the_next_run(store: FileStore) -> None:
    leave(store)
    assert store.sweep() == 0
    partial = store.partials.open(OBJECT, 3, resumable=True)
    assert partial.finished == {0}
    read = bytearray()
    partial.read(0, 300, read.extend)
    assert read == b"x" * 60 + b"y" * 40  # and no longer: a disk without holes in its files would have filled them


@pytest.mark.parametrize(
    "changed", [OBJECT._replace(etag="newer"), OBJECT._replace(size=299), OBJECT._replace(part_size=100)]
)
def test_only_the_very_same_goes_on(store: FileStore, changed: Identity) -> None:
    leave(store)
    partial = store.partials.open(changed, 3, resumable=True)
    assert partial.finished == set()
    read = bytearray()
    partial.read(0, 300, read.extend)
    assert not any(read)


@pytest.mark.parametrize("note", [True, False])
def test_without_a_finished_piece_there_is_nothing_to_go_on_with(store: FileStore, note: bool) -> None:
    leave(store, piece=False)
    assert names(store) == [".note", ".part"]
    if not note:
        next((store.data_dir / ".ingest" / "tmp").glob("*.note")).unlink()
    assert store.sweep() == 1
    assert names(store) == []


def test_what_nobody_came_back_for_is_removed(store: FileStore) -> None:
    leave(store)
    old = time.time() - KEPT_SECONDS - 60
    for path in (store.data_dir / ".ingest" / "tmp").iterdir():
        os.utime(path, (old, old))
    assert store.sweep() == 1
    assert names(store) == []


def test_when_all_is_done_nothing_is_left_but_another_buckets(store: FileStore) -> None:
    leave(store)
    leave(store, OBJECT._replace(bucket="elsewhere", key="other"))
    assert store.sweep(all_done=True) == 1
    assert names(store) == [".note", ".part"]


def test_what_a_process_works_on_is_let_be(store: FileStore) -> None:
    partial = store.partials.open(OBJECT, 3, resumable=True)
    partial.finish_piece(1, 100, 200)
    other = FileStore(store.data_dir, "statements")
    assert other.sweep(all_done=True) == 0
    private = other.partials.open(OBJECT, 3, resumable=True)
    assert private.temporary != partial.temporary
    other.partials.leave(private)
    assert names(store) == [".note", ".part"]
    other.close()


def test_foreign_files_are_never_swept(store: FileStore) -> None:
    home = store.data_dir / ".ingest" / "tmp"
    (home / "large-report.part").write_text("someone's")
    (home / ("large-" + "0" * 40 + ".part")).symlink_to("/etc/hostname")
    assert store.sweep(all_done=True) == 0
    assert len(list(home.iterdir())) == 2


def test_a_planted_symlink_is_not_written_through(store: FileStore, tmp_path: Path) -> None:
    target = tmp_path / "target"
    target.write_text("mine")
    name = store.partials._name("large") + ".part"
    (store.data_dir / ".ingest" / "tmp" / name).symlink_to(target)
    with pytest.raises(DiskError):
        store.partials.open(OBJECT, 3, resumable=True)
    assert target.read_text() == "mine"


def test_a_closed_partial_takes_nothing_more(store: FileStore) -> None:
    """A thread that comes late must not write into whatever file has got the descriptor meanwhile."""
    partial = store.partials.open(OBJECT, 3, resumable=True)
    store.partials.leave(partial)
    with pytest.raises(DiskError):
        partial.write(0, [b"late"])
