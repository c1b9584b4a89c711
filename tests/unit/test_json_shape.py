"""The object of ``--json`` has one frame, whatever the command and however it ends."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import click
import pytest

from ingest.cli import main
from ingest.observe.report import frame
from ingest.testing.memory_s3 import MemoryS3, running
from tests.fixtures.forks import fork_server
from tests.fixtures.process import environment

WELL: dict[str, Sequence[str]] = {
    "db upgrade": (),
    "check": (),
    "sync": (),
    "backfill": ("--since", "2020-01-01"),
    "verify": (),
    "cleanup": ("--older-than", "1m"),
    "restore": ("a",),
    "hold add": ("a", "--reason", "audit"),
    "hold list": (),
    "hold remove": ("a",),
    "deadletters list": (),
    "ls": (),
    "status": (),
    "runs": (),
    "runs list": (),
    "runs show": ("1",),
    "history": ("a",),
    "config": (),
    "source list": (),
    "source attach": ("--dry-run",),
    "source rename": ("1", "new.example.com:9000", "--dry-run"),
    "source forget": ("1", "--force", "--dry-run"),
    "db current": (),
    "db check": (),
    "db downgrade": ("--dry-run",),
}
"""What each command is called with to end well, in an order in which they do."""
REFUSED: dict[str, tuple[Sequence[str], int]] = {
    "deliver": ((), 2),
    "consume": ((), 2),
    "deadletters discard": ((), 2),
    "deadletters retry": ((), 2),
    "demo": (("--dir", "."), 2),
}
"""Those that need more than a bucket, and how they say so."""
RUNS = {"sync", "backfill", "verify", "cleanup", "restore", "hold add", "hold remove"}


class Answer(NamedTuple):
    code: int
    said: str

    @property
    def document(self) -> dict[str, Any]:
        (line,) = self.said.splitlines()
        found: dict[str, Any] = json.loads(line)
        return found


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> Iterator[str]:
    if not isinstance(command, click.Group):
        yield " ".join(path)
        return
    context = click.Context(command)
    for name in command.list_commands(context):
        found = command.get_command(context, name)
        assert found is not None
        yield from leaves(found, (*path, name))


def answered(home: Path, variables: dict[str, str], calls: Sequence[Sequence[str]]) -> list[Answer]:
    own = environment(variables)
    return [Answer(*fork_server().answer(call, own, cwd=home)) for call in calls]


def test_every_command_is_tried() -> None:
    assert {*WELL, *REFUSED} - {"runs"} == set(leaves(main))


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("home")


def test_the_frame_of_what_ends_well_and_of_what_is_refused(home: Path) -> None:
    calls = [(name, 0, arguments) for name, arguments in WELL.items()]
    calls += [(name, code, arguments) for name, (arguments, code) in REFUSED.items()]
    with running(MemoryS3()) as server:
        server.fill({"a": b"1", "b/c": b"2"})
        variables = server.bucket.variables(home / "data")
        answers = answered(home, variables, [[*name.split(), *arguments, "--json"] for name, _, arguments in calls])
    for (name, code, _), answer in zip(calls, answers, strict=True):
        document = answer.document
        assert frame("").keys() <= document.keys(), name
        assert (document["command"], document["exit_code"], answer.code) == (name, code, code), answer
        assert document["status"] == ("failed" if code else "ok")
        assert isinstance(document["run_id"], int) is (name in RUNS), name
        assert (document["error"] is None) is not code, name


@pytest.mark.parametrize(
    ("flags", "variables"),
    [(("--no-such-flag",), {}), (("--env-file", "missing.env"), {}), ((), {"S3_SECURE": "perhaps"})],
    ids=["usage", "no file", "settings"],
)
def test_the_frame_of_what_cannot_begin(home: Path, flags: Sequence[str], variables: dict[str, str]) -> None:
    is_usage = "--no-such-flag" in flags
    names = sorted({*WELL, *REFUSED} - (set() if is_usage else {"demo"}))  # which reads no settings
    calls = [[*name.split(), *WELL.get(name, ()), *flags, "--json"] for name in names]
    for name, answer in zip(names, answered(home, variables, calls), strict=True):
        document, code = answer.document, answer.code
        assert frame("").keys() <= document.keys(), name
        assert (document["command"], document["run_id"], document["exit_code"]) == (name, None, code), answer
        assert code == (1 if name == "check" and not is_usage else 2), answer
        assert (document["status"], set(document["error"])) == ("failed", {"code", "message", "hint"})
