"""Servers that say no name, or another's: what they do tells how they may be listed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from ingest.catalog.sql.connect import open_driver
from ingest.catalog.sql.url import Target
from tests.faults.rig import Rig, rigged

FLAT = {f"statement-{number:03}.pdf": b"%d" % number for number in range(24)}
LAYOUTS = {
    "flat": FLAT,
    "in directories": {f"{key[:-6]}/{key}": body for key, body in FLAT.items()},
    "below one directory": {f"st/{key}": body for key, body in FLAT.items()},
    "where orders differ": {
        key: key.encode() for key in ("a", "z!", "z-a", "z-a/x", "z.pdf", "z/a", "z/b", "z0", "zz")
    },
}


async def asked(rig: Rig, sql: str) -> Any:
    async with open_driver(Target.of(rig.settings.database_url.get_secret_value())) as driver:
        return (await driver.fetch(sql))[0][0]


async def order(rig: Rig) -> str:
    found: str = await asked(rig, "SELECT listing_order FROM sources")
    return found


async def remembered(rig: Rig) -> int:
    found: int = await asked(rig, "SELECT coalesce(sum(listed), 0) FROM pages")
    return found


@pytest.mark.parametrize("name", ["", "nginx", "AmazonS3", "MinIO"])
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_server_that_lists_in_byte_order_is_known_by_what_it_does(
    tmp_path: Path, sqlite_url: str, swift: None, name: str, layout: str
) -> None:
    objects = LAYOUTS[layout]
    async with rigged(tmp_path, sqlite_url, objects, name=name) as rig:
        report = await rig.run(0)
        assert report.counts.downloaded == len(objects)
        assert await order(rig) == "bytes"
        assert await remembered(rig) == len(objects)
        rig.server.page = 1_000
        report = await rig.run(0)
        assert (report.counts.unchanged, await remembered(rig)) == (len(objects), len(objects))
        await rig.heal()


@pytest.mark.parametrize("name", ["", "nginx", "AmazonS3", "MinIO"])
@pytest.mark.parametrize("layout", LAYOUTS)
async def test_a_server_that_lists_by_directory_loses_nothing_whatever_it_calls_itself(
    tmp_path: Path, sqlite_url: str, swift: None, name: str, layout: str
) -> None:
    objects = LAYOUTS[layout]
    async with rigged(tmp_path, sqlite_url, objects, name=name) as rig:
        rig.server.by_directory = True
        report = await rig.run(0)
        assert report.counts.downloaded == len(objects)
        for key in ("z/new.pdf", "z-new.pdf", "statement-000.pdf/below.pdf"):
            rig.server.put(key, b"new")
        reports = [await rig.attempt() for _ in range(3)]  # the one that learns otherwise may end with 4
        assert sum(report.counts.gone for report in reports) == 0
        assert reports[-1].exit_code == 0
        assert set(await rig.rows()) == set(rig.server.objects)
        assert await order(rig) == "directory"


async def test_a_server_that_does_not_begin_where_it_is_asked_to(tmp_path: Path, sqlite_url: str, swift: None) -> None:
    """Its tokens are all that it may be listed by."""
    async with rigged(tmp_path, sqlite_url, FLAT, name="MinIO") as rig:
        rig.server.heeds_start = False
        for expected in (len(FLAT), 0):
            report = await rig.run(0)
            assert report.counts.downloaded == expected
        assert await order(rig) == "unknown"


async def test_a_server_that_sends_more_than_it_is_asked_for(tmp_path: Path, sqlite_url: str, swift: None) -> None:
    """What is remembered is in there: nothing is read, and nothing decided twice."""
    async with rigged(tmp_path, sqlite_url, FLAT | LAYOUTS["where orders differ"]) as rig:
        rig.server.heeds_most, rig.server.page = False, 10
        for expected in (len(rig.server.objects), 0, 0):
            report = await rig.run(0)
            assert (report.counts.listed, report.counts.downloaded) == (len(rig.server.objects), expected)
        assert await order(rig) == "bytes"
        await rig.heal()


@pytest.mark.parametrize("between", ["\n  ", "\r\n\t"], ids=["indented", "with CR and tab"])
async def test_white_space_between_entries_is_no_reason_to_forget(
    tmp_path: Path, sqlite_url: str, swift: None, between: str
) -> None:
    async with rigged(tmp_path, sqlite_url, FLAT, name="AmazonS3") as rig:
        rig.server.between = between
        await rig.run(0)
        for number in range(4):
            rig.server.put(f"statement-{5 * number:03}a.pdf", b"new tonight")
            await rig.run(0)
        await rig.run(0)
        assert await remembered(rig) == len(rig.server.objects)
        rig.server.between = ""  # another release of the server
        await rig.run(0)
        assert await remembered(rig) == len(rig.server.objects)
