"""What others put in the way is refused or left alone, and what a link points to untouched."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.store.partials import Partials
from ingest.store.temporaries import Owner
from tests.faults.rig import OBJECTS, TARGET, Rig, dead_pid

LINKS = {
    "the data directory's own": ".ingest",
    "temporaries": ".ingest/tmp",
    "locks": ".ingest/locks",
    "bucket": "statements",
    "first level": "statements/2026",
    "second level": "statements/2026/02",
}


@pytest.fixture
def elsewhere(rig: Rig) -> Path:
    """A directory outside, with a file of somebody else's, which no run may touch."""
    found = rig.home / "elsewhere"
    (found / "02").mkdir(parents=True)
    (found / "theirs.txt").write_text("theirs")
    return found


@pytest.mark.parametrize("place", LINKS.values(), ids=LINKS.keys())
async def test_a_symlink_in_a_directorys_place(rig: Rig, elsewhere: Path, tmp_path: Path, place: str) -> None:
    """Never followed, at no level. Our own directories and the bucket's: 5. Below: what lies there fails, the rest is
    done."""
    rig.settings = rig.settings.replace(data_dir=rig.home / "planted")
    link = rig.settings.data_dir / place
    link.parent.mkdir(parents=True)
    link.symlink_to(elsewhere)
    report = await rig.attempt()
    assert "symlink" in (report.error.message if report.error else (await rig.rows())[TARGET]["last_error"])
    below = [key for key in OBJECTS if f"statements/{key}".startswith(f"{place}/")]
    if place.startswith("statements/"):
        assert (report.exit_code, report.counts.failed) == (3, len(below))
        assert report.counts.downloaded == len(OBJECTS) - len(below)
        await rig.check_all(report)
    else:
        assert report.exit_code == 5
        assert report.counts.downloaded == 0
    assert sorted(path.name for path in elsewhere.iterdir()) == ["02", "theirs.txt"]
    link.unlink()
    await rig.heal()


async def test_a_symlink_in_a_files_place(rig_on_each: Rig) -> None:
    """The link goes, our file comes, and what it pointed to stays as it was: also where it is changed later."""
    rig = rig_on_each
    place = rig.settings.data_dir / rig.settings.bucket / TARGET
    place.parent.mkdir(parents=True)
    place.symlink_to(rig.home / "neighbour")
    await rig.run(0)
    assert place.read_bytes() == OBJECTS[TARGET]
    place.unlink()
    place.symlink_to(rig.home / "neighbour")
    rig.server.put(TARGET, b"changed")
    await rig.run(0)
    assert (rig.home / "neighbour").read_text() == "not ours"
    await rig.heal()


async def test_a_symlink_to_the_right_bytes_is_not_adopted(rig: Rig) -> None:
    """Bytes that others own, outside, are no copy of ours."""
    right = rig.home / "right"
    right.write_bytes(OBJECTS[TARGET])
    place = rig.settings.data_dir / rig.settings.bucket / TARGET
    place.parent.mkdir(parents=True)
    place.symlink_to(right)
    await rig.run(0)
    assert not place.is_symlink()
    assert rig.server.count("get", TARGET) == 1
    await rig.heal()


async def test_a_symlink_in_the_locks_place(rig: Rig) -> None:
    lock = rig.settings.own_dir / "locks" / f"{rig.settings.bucket}-sync.lock"
    lock.parent.mkdir(parents=True)
    lock.symlink_to(rig.home / "neighbour")
    report = await rig.run(5)
    assert report.error is not None
    assert report.error.code == "unsafe_path"
    lock.unlink()
    await rig.heal()


@pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "directory"])
@pytest.mark.parametrize("name", ["sync", "copies"])
async def test_no_file_in_the_locks_place(rig: Rig, make: Callable[[Path], object], name: str) -> None:
    """Refused by name: nobody can hold it, and nobody waits for it."""
    lock = rig.settings.own_dir / "locks" / f"{rig.settings.bucket}-{name}.lock"
    lock.parent.mkdir(parents=True)
    make(lock)
    report = await rig.run(5)
    assert report.error is not None
    assert report.error.code == "unsafe_path"
    assert lock.name in report.error.message
    os.unlink(lock) if lock.is_fifo() else lock.rmdir()
    await rig.heal()


async def test_a_pipe_in_a_copys_place(rig: Rig) -> None:
    """Nobody writes into it, and nobody waits for that: it is no copy to adopt, and ours takes its place."""
    place = rig.settings.data_dir / rig.settings.bucket / TARGET
    place.parent.mkdir(parents=True)
    os.mkfifo(place)
    done = await rig.cli("sync")
    assert done.exit_code == 0, done.stderr
    assert place.read_bytes() == OBJECTS[TARGET]
    await rig.heal()


@pytest.mark.parametrize("ending", ["note", "draft", "part"])
async def test_a_pipe_among_the_temporary_files(rig: Rig, ending: str) -> None:
    """In the place of a large object's own files: without its note it starts anew; where it would grow, it takes a file
    of another name."""
    rig.server.put("large", bytes(5 << 20))
    stem = Partials(0, rig.settings.bucket, Owner(0))._name("large")
    pipe = rig.settings.own_dir / "tmp" / f"{stem}.{ending}"
    pipe.parent.mkdir(parents=True)
    os.mkfifo(pipe)
    done = await rig.cli("sync")
    assert done.exit_code == 0, done.stderr
    assert (rig.settings.data_dir / rig.settings.bucket / "large").read_bytes() == bytes(5 << 20)
    assert [path for path in pipe.parent.iterdir() if not path.is_fifo()] == []


def temporaries() -> dict[str, Callable[[Path], object]]:
    """Names in our own directory that no run may sweep."""
    return {
        "notes.txt": Path.touch,
        "x.part": Path.touch,
        f"{os.getpid()}-0123.part": Path.touch,  # of a process that lives
        f"{dead_pid()}-0123.txt": Path.touch,
        f"{dead_pid()}-directory.part": Path.mkdir,
        ".hidden.part": Path.touch,
    }


async def test_foreign_temporary_files_are_left_alone(rig: Rig) -> None:
    own = rig.settings.own_dir / "tmp"
    own.mkdir(parents=True)
    planted = temporaries()
    for name, make in planted.items():
        make(own / name)
    (own / f"{dead_pid()}-0123456789abcdef.part").touch()  # and this one is ours
    await rig.run(0)
    assert sorted(path.name for path in own.iterdir()) == sorted(planted)


async def test_a_directory_where_a_file_goes(rig_on_each: Rig) -> None:
    """The copy takes the escaped name beside it; what stands in the directory stays."""
    rig = rig_on_each
    place = rig.settings.data_dir / rig.settings.bucket / TARGET
    place.mkdir(parents=True)
    (place / "target.pdf").write_bytes(OBJECTS[TARGET])
    rig.server.versions[f"{TARGET}/target.pdf"] = [OBJECTS[TARGET]]
    report = await rig.run(0)
    await rig.check_all(report)
    assert (await rig.rows())[TARGET]["local_path"] == "statements/2026/02/%74arget.pdf"
    assert (place / "target.pdf").exists()
    assert (await rig.run(0)).counts.unchanged == len(OBJECTS)


async def test_a_file_where_a_directory_goes(rig_on_each: Rig) -> None:
    """The copies below take names with their slash escaped; the file stays as it was."""
    rig = rig_on_each
    place = rig.settings.data_dir / rig.settings.bucket / "2026"
    place.parent.mkdir(parents=True)
    place.write_bytes(b"not ours")
    rig.server.versions["2026"] = [b"not ours"]
    report = await rig.run(0)
    await rig.check_all(report)
    assert place.read_bytes() == b"not ours"
    assert (await rig.rows())[TARGET]["local_path"] == "statements/2026%2F02/target.pdf"
    assert (await rig.run(0)).counts.unchanged == len(OBJECTS)
