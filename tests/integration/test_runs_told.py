"""What decided a run is on its record, and `ingest runs show N` says why an object was taken, or left."""

from __future__ import annotations

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from tests.faults.rig import MODIFIED, Printed, Rig, rigged, variables_of
from tests.fixtures.process import run_ingest

ENGINE = ("--transfers", "3", "--listers", "2", "--no-page-memory", "--max-gone", "5%", "--bwlimit", "10MiB")
TOLD: dict[str, Any] = {
    "transfers": 3,
    "listers": 2,
    "no_page_memory": True,
    "max_gone": "5%",
    "bwlimit": 10 << 20,
    "deliver": True,
    "dry_run": True,
}


@pytest.fixture
async def rig(tmp_path: Path, sqlite_url: str, swift: None) -> AsyncIterator[Rig]:
    async with rigged(tmp_path, sqlite_url) as made:
        yield made


async def shown(rig: Rig, number: int, *more: str) -> Printed:
    return await rig.cli("runs", "show", str(number), *more)


@pytest.mark.parametrize("command", [("sync", "--newer-than"), ("backfill", "--since")])
async def test_every_flag_of_the_engine_is_on_record(rig: Rig, command: tuple[str, str]) -> None:
    verify_url = "http://127.0.0.1:9/v1/verify"
    done = await rig.cli(
        command[0], command[1], "2026-01-01T12:30", "--prefix", "2026/", "--deliver", "--dry-run", *ENGINE, "-q",
        VERIFY_URL=verify_url,
    )  # fmt: skip
    assert done.exit_code == 0
    told = (await shown(rig, 1)).document["run"]["arguments"]
    words = command[1].removeprefix("--").replace("-", "_")
    window = {words: "2026-01-01T12:30", "window": ["2026-01-01T12:30:00+00:00", None], "prefix": ["2026/"]}
    assert told == TOLD | window


async def test_it_says_why_an_object_was_known(rig: Rig) -> None:
    wanted = ("sync", "-q", "--older-than", "2026-01-02T03:04:05", "--exclude", "letter*", "--filter", "*.txt")
    assert (await rig.cli(*wanted)).exit_code == 0
    assert (await rig.cli("sync", "-q", "--include", "letter*", "--prefix", "s3://statements/letter")).exit_code == 0
    assert (await rig.cli("cleanup", "-q")).exit_code == 0
    for run, key, state, why in (
        (1, "index.txt", "known", f"not wanted: modified {MODIFIED:%Y-%m-%d %H:%M:%S} UTC, and the window is before"),
        (2, "index.txt", "known", "not listed: it begins with no prefix of ['s3://statements/letter']"),
        (2, "s3://statements/letter.pdf", "present", "wanted: nothing that the run was told keeps it out"),
        (3, "letter.pdf", "present", "no cleanup lists the bucket"),
    ):
        found = (await shown(rig, run, "--key", key)).document["object"]
        assert (found["key"], found["state"]) == (key.removeprefix("s3://statements/"), state)
        assert found["why"].startswith(why)
    assert (await shown(rig, 1, "--key", "nobody")).exit_code == 1


async def test_people_see_the_same(rig: Rig) -> None:
    assert (await rig.cli("sync", "-q", "--newer-than", "2030-01-01")).exit_code == 0
    done = await run_ingest(
        "runs", "show", "1", "--key", "index.txt", variables=variables_of(rig.settings), cwd=rig.home
    )
    assert "newer_than  2030-01-01" in done.stdout
    assert "index.txt (known): not wanted: modified 2026-01-02" in done.stdout
