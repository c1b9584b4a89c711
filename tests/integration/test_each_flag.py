"""Flags as people type them, each with what it brings about: a flag that does nothing fails here.

What they are tried on is made anew for each test.
"""

from __future__ import annotations

import asyncio
import json
import sqlite3
from collections.abc import Iterator, Mapping
from contextlib import closing, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from ingest.cli import main
from ingest.demo.verify_service import VerifyService
from ingest.engine.options import ConsumeOptions
from ingest.model import RunReport
from ingest.testing import faults
from ingest.testing.memory_s3 import Answer, Asked, Deed, Fault, MemoryS3, running
from ingest.testing.raw_server import Visit
from tests.fixtures.forks import fork_server
from tests.fixtures.process import environment, run_ingest

OLD, NEW = datetime(2024, 6, 1, tzinfo=UTC), datetime(2026, 6, 1, tzinfo=UTC)
OBJECTS = {"a/1.pdf": OLD, "a/2.txt": OLD, "b/1.pdf": NEW, "b/2.txt": NEW, "b/3.tmp": NEW}


@dataclass
class Place:
    """A bucket, and a directory where nothing is yet."""

    server: MemoryS3
    home: Path
    more: Mapping[str, str] = field(default_factory=dict)

    def run(self, *commands: str) -> list[dict[str, Any]]:
        """The commands, words separated by blanks, and what each printed as JSON."""
        calls = [[*command.split(), "-q", "--json"] for command in commands]
        variables = self.server.bucket.variables(self.home / "data") | dict(self.more)
        own = environment(variables)
        return [json.loads(fork_server().answer(call, own, cwd=self.home)[1]) for call in calls]

    def counts(self, name: str, *commands: str) -> list[int]:
        return [document[name] for document in self.run(*commands)]

    def write(self, sql: str, *values: object) -> None:
        """Into the catalog."""
        with closing(sqlite3.connect(self.home / "data" / ".ingest" / "catalog.db")) as connection, connection:
            connection.execute(sql, values)

    @property
    def files(self) -> list[str]:
        root = self.home / "data" / "statements"
        return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


@pytest.fixture
def place(tmp_path: Path) -> Iterator[Place]:
    with running(MemoryS3(name="MinIO")) as server:
        for key, modified in OBJECTS.items():
            server.modified = modified
            server.put(key, key.encode())
        yield Place(server, tmp_path)


@pytest.mark.parametrize(
    ("command", "expected"),
    [
        ("sync", 5),
        ("sync --newer-than 2025-01-01", 3),
        ("sync --newer-than 2026-06-01T00:00:01", 0),
        ("sync --older-than 2025-01-01", 2),
        ("sync --include *.pdf", 2),
        ("sync --include *.pdf --include *.tmp", 3),
        ("sync --exclude *.tmp", 4),
        ("sync --filter *.txt", 3),
        ("sync --prefix b/", 3),
        ("sync --prefix a/ --prefix b/3", 3),
        ("backfill --since 2025-01-01", 3),
        ("backfill --since 2020-01-01 --until 2025-01-01", 2),
        ("backfill --since 2020-01-01 --prefix b/", 3),
    ],
)
def test_what_is_wanted(place: Place, command: str, expected: int) -> None:
    assert place.counts("downloaded", command) == [expected]
    assert len(place.files) == expected


@pytest.mark.parametrize("command", ["sync", "backfill --since 2020-01-01"])
def test_a_dry_run_does_nothing(place: Place, command: str) -> None:
    (said,) = place.run(f"{command} --dry-run")
    assert (said["new"], said["downloaded"], place.files) == (5, 0, [])


@pytest.mark.parametrize("command", ["sync", "backfill --since 2020-01-01"])
def test_pages_are_read_whole_without_the_memory(place: Place, command: str) -> None:
    place.run(command)
    asked = {}
    for flag in ("", " --no-page-memory"):
        place.server.asked.clear()
        assert place.counts("unchanged", command + flag) == [5]
        asked[flag] = {each.query["max-keys"] for each in place.server.asked if each.operation == "list"}
    assert "5" in asked[""]  # what is remembered is asked for by its number of keys
    assert "5" not in asked[" --no-page-memory"]


@dataclass
class AtOnce:
    """Keeps answers back until there are so many at once; `most` is the highest number there was."""

    wanted: int
    now: int = 0
    most: int = 0
    reached: asyncio.Event | None = None

    async def deed(self, visit: Visit, answer: Answer) -> None:
        self.reached = self.reached or asyncio.Event()
        self.now += 1
        self.most = max(self.most, self.now)
        if self.most >= max(self.wanted, 2):
            self.reached.set()
        # Where one at a time is wanted no second one may come: an answer is kept back for a moment to see.
        with suppress(TimeoutError):
            await asyncio.wait_for(self.reached.wait(), 0.2 if self.wanted == 1 else 60)
        self.now -= 1
        await visit.send(answer.head, answer.body)


@pytest.mark.parametrize("command", ["sync", "backfill --since 2020-01-01"])
@pytest.mark.parametrize("number", [1, 3])
def test_so_many_downloads_at_once(place: Place, command: str, number: int) -> None:
    at_once = AtOnce(number)
    place.server.faults = [Fault("get", at_once.deed)]
    assert place.counts("downloaded", f"{command} --transfers {number}") == [5]
    assert at_once.most == number


@pytest.mark.parametrize("command", ["sync", "backfill --since 2020-01-01"])
@pytest.mark.parametrize("number", [1, 2])
def test_so_many_listings_at_once(tmp_path: Path, command: str, number: int) -> None:
    at_once = AtOnce(number)
    with running(MemoryS3(by_directory=True, name="SeaweedFS")) as server:
        for key in OBJECTS:
            server.put(key, key.encode())
        place = Place(server, tmp_path)
        place.run("sync")

        def of_a_directory(asked: Asked, _: Answer) -> Deed | None:
            below = asked.operation == "list" and asked.key in ("a/", "b/") and "delimiter" not in asked.query
            return at_once.deed if below and asked.query["max-keys"] == "1000" else None

        server.faults = [of_a_directory]
        assert place.counts("unchanged", f"{command} --listers {number}") == [5]
    assert at_once.most == number


def test_how_much_is_removed(place: Place) -> None:
    old = "cleanup --older-than 0d"
    said = place.run("sync", "cleanup", "cleanup --older-than 1d", f"{old} --dry-run")
    assert [each.get("pruned") for each in said] == [0, 0, 0, 5]
    assert len(place.files) == 5
    assert place.counts("pruned", f"{old} --max-delete 2") == [2]
    place.server.asked.clear()
    assert place.counts("pruned", f"{old} --max-delete 1", f"{old} --trust-catalog") == [1, 2]
    assert place.server.count("head") <= 3  # none for those that the catalog was trusted with


def test_copies_of_what_is_gone(place: Place) -> None:
    place.run("sync")
    del place.server.objects["a/1.pdf"]
    place.run("sync")
    place.write("UPDATE objects SET gone_at = '2020-01-01 00:00:00.000000' WHERE gone_at IS NOT NULL")
    old = "cleanup --older-than 0d"
    assert place.counts("pruned", f"{old}", f"{old} --gone-after 30d") == [4, 1]


def test_an_operators_word(place: Place) -> None:
    def undated(_: Asked, answer: Answer) -> Deed | None:
        headers = {name: value for name, value in answer.headers.items() if name != "Date"}
        return faults.answering(lambda whole: whole._replace(headers=headers))

    place.server.faults = [undated]
    place.run("sync")
    place.write("UPDATE sources SET clock_at = '2020-01-01 00:00:00.000000'")
    old = "cleanup --older-than 0d"
    said = place.run(old, f"{old} --trust-clock --max-delete 1", old)
    assert [(each["exit_code"], each["pruned"]) for each in said] == [(4, 0), (0, 1), (0, 4)]


def test_which_come_back_and_which_are_looked_at(place: Place) -> None:
    said = place.run("sync", "cleanup --older-than 0d", "restore --prefix a/", "verify --prefix b/", "verify")
    assert said[2]["restored"] == 2
    assert [each["checked"] for each in said[3:]] == [0, 2]
    (place.home / "data" / "statements" / "a" / "1.pdf").unlink()
    assert place.counts("exit_code", "verify", "verify --repair", "verify") == [7, 0, 0]


def test_what_is_held(place: Place) -> None:
    said = place.run(
        "sync", "hold add --prefix a/ --reason audit", "hold list", "cleanup --older-than 0d", "hold remove --prefix a/"
    )
    assert [(each["key"], each["is_prefix"], each["reason"]) for each in said[2]["holds"]] == [("a/", True, "audit")]
    assert (said[3]["pruned"], said[3]["kept"]) == (3, 2)
    assert place.counts("pruned", "cleanup --older-than 0d") == [2]


def test_how_many_are_shown(place: Place) -> None:
    place.server.faults = [Fault("get", faults.saying("403 Forbidden", "AccessDenied"))]
    said = place.run(
        "sync", "ls", "ls --limit 2", "runs", "runs list --limit 1", "runs show 1", "runs show 1 --limit 3"
    )
    assert [len(each["objects"]) for each in said[1:3]] == [5, 2]
    assert [len(each["runs"]) for each in said[3:5]] == [1, 1]
    assert [len(each["failures"]) for each in said[5:]] == [5, 3]
    assert len(place.run("sync", "runs list --limit 1")[1]["runs"]) == 1


def test_which_letters(place: Place) -> None:
    place.run("sync")
    insert = (
        'INSERT INTO dead_letters (source_id, topic, "partition", "offset", headers, state, reason, attempts, first_at) '
        "VALUES (1, 't', 0, ?, '[]', 'dead', ?, '[]', ?)"
    )
    for offset, (reason, at) in enumerate(
        (("not_json", "2020-01-01"), ("not_json", "2999-01-01"), ("size", "2999-01-01"))
    ):
        place.write(insert, offset, reason, f"{at} 00:00:00.000000")
    said = place.run("deadletters list", "deadletters list --limit 2", "deadletters list --after 1")
    assert [len(each["letters"]) for each in said] == [3, 2, 2]
    discard = "deadletters discard"
    place.run(f"{discard} --all --dry-run")
    for flags, left in (("--reason not_json --older-than 30d", 2), ("--reason not_json", 1), ("--all", 0)):
        place.run(f"{discard} {flags}")
        assert [len(each["letters"]) for each in place.run("deadletters list")] == [left]


def test_what_is_handed_over(place: Place, service: VerifyService) -> None:
    place.more = {"VERIFY_URL": service.url}
    service.rejects = {"a/1.pdf": 422}
    said = place.run("sync --prefix a/", "deliver", "backfill --since 2020-01-01 --prefix b/ --deliver", "deliver")
    assert [each["delivered"] for each in said] == [0, 0, 0, 3]
    place.server.fill({"c": b"one", "d": b"another"})
    said = place.run("sync --deliver", "deliver --limit 1")
    assert (said[1]["delivered"], said[1]["pending"]) == (1, 1)
    place.server.put("a/1.pdf", b"to be rejected")
    said = place.run("sync --deliver", "deliver", "deliver")
    assert [each["rejected"] for each in said] == [0, 1, 0]
    service.rejects.clear()
    assert place.counts("delivered", "deliver --again rejected") == [1]


def test_an_earlier_address(place: Place, service: VerifyService) -> None:
    place.more = {"VERIFY_URL": "http://127.0.0.1:9/v1/verify"}
    place.run("sync --deliver")
    place.more = {"VERIFY_URL": service.url}
    assert place.counts("delivered", "deliver", "deliver --take-over") == [0, 5]
    assert len(service.accepted) == 5


def test_instead_of_settings(place: Place) -> None:
    flags = {"endpoint": "other.example.com:1", "bucket": "others", "data-dir": str(place.home / "x"), "region": "eu-x"}
    (said,) = place.run("config " + " ".join(f"--{name} {value}" for name, value in flags.items()))
    shown = {line["value"] for line in said["settings"] if line["origin"] == "flag"}
    assert shown == set(flags.values())
    (refused,) = place.run(f"config --ca-bundle {place.home}/none.pem")
    assert "none.pem" in refused["error"]["message"]
    (place.home / "other.env").write_text("INGEST_RETENTION=77d\n")
    assert ["77" in json.dumps(each) for each in place.run("config", "config --env-file other.env")] == [False, True]


def test_one_object_is_tried(place: Place) -> None:
    said = place.run("check", "check --download a/1.pdf", "check --download nobody")
    assert [each["exit_code"] for each in said] == [0, 0, 1]
    assert len(said[1]["steps"]) == len(said[0]["steps"]) + 1


def test_what_a_consumer_is_told(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """What its options do is tried with brokers; here, that the flags are these options."""
    told: list[ConsumeOptions] = []

    async def noting(_: object, options: ConsumeOptions, **__: object) -> RunReport:
        told.append(options)
        return RunReport("consume")

    monkeypatch.setattr("ingest.jobs.consume.consume", noting)
    monkeypatch.chdir(tmp_path)
    flags = "--patience 7m --until-idle 9s --listen 127.0.0.1:9180 --transfers 5"
    assert CliRunner().invoke(main, ["consume", "-q", *flags.split()]).exit_code == 0
    assert told == [ConsumeOptions(5, timedelta(minutes=7), timedelta(seconds=9), "127.0.0.1:9180")]


@pytest.mark.parametrize("command", ["sync", "backfill --since 2020-01-01", "restore --prefix a/"])
async def test_no_more_than_the_rate(place: Place, command: str) -> None:
    """That the rate is kept is tried elsewhere; that a command hands it on shows by what is said of a low one."""
    place.run("sync", "cleanup --older-than 0d")
    variables = place.server.bucket.variables(place.home / "data")
    for flag, said in (("--bwlimit=1MiB", False), ("--bwlimit=15KiB", True)):
        done = await run_ingest(*command.split(), flag, variables=variables, cwd=place.home)
        assert ("slow_rate" in done.stderr) is said


async def test_what_is_told_besides(place: Place) -> None:
    variables = place.server.bucket.variables(place.home / "data")
    told = {}
    for flag in ("-v", "-q", "--json"):
        done = await run_ingest("sync", flag, variables=variables, cwd=place.home)
        told[flag] = "run_started" in done.stderr, "settings" in done.stderr or "debug" in done.stderr, done.stdout[:1]
        place.server.put("a/1.pdf", flag.encode())
    assert told == {"-v": (True, True, "s"), "-q": (False, False, ""), "--json": (True, False, "{")}
