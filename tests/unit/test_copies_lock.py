"""What the holders of the copies' lock tell one another, also where the disk takes no word of it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ingest.errors import LockedError
from ingest.store import identity
from ingest.store.locks import CopiesLock


def test_a_process_that_hangs_with_the_marks_lock_is_not_waited_for_for_ever(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(identity, "TURN_SECONDS", 0.05)
    refused = pytest.raises(LockedError, match="another process has had")
    with identity.alone(tmp_path), refused, identity.alone(tmp_path):
        pass
    with identity.alone(tmp_path):
        pass


def full(*_: object) -> int:
    raise OSError(28, "No space left on device")


def test_a_holder_sees_that_another_one_came_between(tmp_path: Path) -> None:
    one = CopiesLock(tmp_path / "lock")
    assert one.take()
    one.give_back()
    assert not one.shared
    other = CopiesLock(tmp_path / "lock")
    assert not other.shared
    assert one.take()
    assert one.shared


def test_whoever_cannot_say_so_is_seen_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a full disk the count cannot be written: both take it that somebody was there, and read their rows again."""
    one = CopiesLock(tmp_path / "lock")
    with monkeypatch.context() as patched:
        patched.setattr(os, "pwrite", full)
        other = CopiesLock(tmp_path / "lock")
        assert other.take()
        other.give_back()
    assert one.take()
    one.give_back()
    assert one.shared
    assert other.take()
    assert other.shared


def test_two_that_cannot_say_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "pwrite", full)
    one, other = CopiesLock(tmp_path / "lock"), CopiesLock(tmp_path / "lock")
    for lock in (one, other):
        assert lock.take()
        assert lock.shared
        lock.give_back()
