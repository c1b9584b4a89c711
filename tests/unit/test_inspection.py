"""What can be said of one copy on disk; directories are real, and so are their faults."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

import pytest

from ingest.store.inspection import Expected, Inspector, Verdict
from ingest.store.walk import walk

BODY = b"statement"
MD5, SHA256 = (f"{name}:{hashlib.new(name, BODY).hexdigest()}" for name in ("md5", "sha256"))


def verdict(data: Path, path: str, *, size: int = len(BODY), digest: str | None = MD5) -> Verdict:
    (finding,) = Inspector(data, "statements").inspect([Expected(path, size, digest)])
    return finding.verdict


@pytest.fixture
def data(tmp_path: Path) -> Path:
    (tmp_path / "statements" / "d").mkdir(parents=True)
    (tmp_path / "statements" / "d" / "k").write_bytes(BODY)
    return tmp_path


@pytest.mark.parametrize(
    ("size", "digest", "expected"),
    [
        (len(BODY), MD5, Verdict.INTACT),
        (len(BODY), SHA256, Verdict.INTACT),
        (len(BODY), None, Verdict.INTACT),
        (len(BODY) + 1, MD5, Verdict.DAMAGED),
        (len(BODY), "md5:" + "0" * 32, Verdict.DAMAGED),
    ],
)
def test_size_and_digest(data: Path, size: int, digest: str | None, expected: Verdict) -> None:
    assert verdict(data, "statements/d/k", size=size, digest=digest) is expected


def test_what_stands_in_the_way(data: Path) -> None:
    os.mkfifo(data / "statements" / "pipe")
    (data / "statements" / "link").symlink_to("d/k")
    (data / "statements" / "directory-link").symlink_to("d")
    expected = {
        "statements/none": Verdict.MISSING,
        "statements/none/k": Verdict.MISSING,
        "statements/d": Verdict.MISSING,
        "statements/d/k/below": Verdict.MISSING,
        "statements/pipe": Verdict.MISSING,
        "statements/" + "x" * 255: Verdict.MISSING,
        "statements/link": Verdict.UNSAFE,
        "statements/directory-link/k": Verdict.UNSAFE,
        "statements/../statements/d/k": Verdict.UNSAFE,
        "statements/d//k": Verdict.UNSAFE,
        "statements/" + "x" * 256: Verdict.UNSAFE,
        "statements/a\0b": Verdict.UNSAFE,
        "another/d/k": Verdict.UNSAFE,
        "/etc/hostname": Verdict.UNSAFE,
        "": Verdict.UNSAFE,
    }
    assert {path: verdict(data, path) for path in expected} == expected


def test_a_file_that_cannot_be_read_is_not_called_damaged() -> None:
    """The kernel answers EIO where a process's memory has no page."""
    own = str(os.getpid())
    (finding,) = Inspector(Path("/proc"), own).inspect([Expected(f"{own}/mem", 0, MD5)])
    assert finding == (Verdict.UNREADABLE, "Input/output error")


def test_a_stop_ends_the_reading(data: Path) -> None:
    (finding,) = Inspector(data, "statements", lambda: True).inspect([Expected("statements/d/k", len(BODY), MD5)])
    assert finding.verdict is Verdict.STOPPED


def test_a_walk_goes_512_levels_down_with_few_descriptors(tmp_path: Path) -> None:
    (tmp_path / "statements").mkdir()
    descriptor = os.open(tmp_path / "statements", os.O_RDONLY)
    for _ in range(511):
        os.mkdir("d", dir_fd=descriptor)
        below = os.open("d", os.O_RDONLY, dir_fd=descriptor)
        os.close(descriptor)
        descriptor = below
    os.close(os.open("k", os.O_CREAT | os.O_WRONLY, dir_fd=descriptor))
    os.close(descriptor)
    assert [found.path for found in walk(tmp_path, "statements")] == ["d/" * 511 + "k"]
    assert [found.path for found in walk(tmp_path, "statements", lambda path: len(path) < 10)] == []
    assert list(walk(tmp_path, "none")) == []
