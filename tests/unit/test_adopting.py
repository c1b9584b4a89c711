"""What is adopted is looked at once more before its row is written: it may have become another file meanwhile."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from ingest.plan.checks import check_for
from ingest.store.files import FileStore

BODY = b"left behind"
ETAG = hashlib.md5(BODY, usedforsecurity=False).hexdigest()


def replaced(path: Path) -> None:
    newer = path.with_name("newer")
    newer.write_bytes(b"left_behind")  # of the same length
    os.replace(newer, path)


def written_over(path: Path) -> None:
    with path.open("r+b") as file:
        file.write(b"L")
    os.utime(path, ns=(0, 0))


def linked(path: Path) -> None:
    """To a file that is right, and none of ours."""
    elsewhere = path.parents[2] / "elsewhere"
    os.replace(path, elsewhere)
    path.symlink_to(elsewhere)


@pytest.mark.parametrize("spoil", [replaced, written_over, linked, Path.unlink])
def test_it_is_given_up(tmp_path: Path, spoil: Callable[[Path], None]) -> None:
    store = FileStore(tmp_path, "statements")
    places = [tmp_path / "statements" / name for name in ("one", "two")]
    for place in places:
        place.write_bytes(BODY)
    found = [store.adopt(place.name, len(BODY), check_for(ETAG, len(BODY))) for place in places]
    adopted = [one for one in found if one is not None]
    assert len(adopted) == 2
    assert store.keep_adopted(adopted) == {"statements/one", "statements/two"}
    spoil(places[1])
    assert store.keep_adopted(adopted) == {"statements/one"}
    store.close()
