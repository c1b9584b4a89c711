"""What is wrong before a command begins has the JSON object of any other failure, and `check` its own shape and code."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ingest.model import RunReport
from ingest.observe.report import as_json
from tests.fixtures.process import Done, run_ingest

SHAPE = set(as_json(RunReport("sync"))) | {"error"}
BAD = {"S3_SECURE": "perhaps"}


def only_object(done: Done) -> dict[str, Any]:
    (line,) = done.stdout.splitlines()
    found: dict[str, Any] = json.loads(line)
    return found


@pytest.mark.parametrize(
    ("arguments", "variables", "command", "said"),
    [
        (["sync"], BAD, "sync", "S3_SECURE"),
        (["db", "current"], BAD, "db current", "S3_SECURE"),
        (["ls"], {}, "ls", "S3_ENDPOINT is not set"),
        (["sync", "--transfers", "x"], {}, "sync", "--transfers"),
        (["hold", "add"], {}, "hold add", "--reason"),
        (["hold", "add", "--reason", "x"], {}, "hold add", "name keys"),
        (["restore", "--nosuch"], {}, "restore", "--nosuch"),
        (["hold", "bogus"], {}, "hold", "bogus"),
        (["bogus"], {}, "", "bogus"),
        (["check", "--nosuch"], {}, "check", "--nosuch"),
    ],
)
async def test_it_is_the_shape_of_every_failure(
    tmp_path: Path, arguments: list[str], variables: Mapping[str, str], command: str, said: str
) -> None:
    done = await run_ingest(*arguments, "--json", variables=variables, cwd=tmp_path)
    document = only_object(done)
    assert set(document) == SHAPE
    assert (document["command"], document["status"], document["exit_code"]) == (command, "failed", 2)
    assert (document["run_id"], document["downloaded"]) == (None, 0)
    assert document["error"]["code"] == "settings"
    assert said in document["error"]["message"]
    assert done.code == 2
    assert said in done.stderr
    assert (await run_ingest(*arguments, variables=variables, cwd=tmp_path)).stdout == ""


async def test_json_that_is_an_argument_is_none(tmp_path: Path) -> None:
    done = await run_ingest("history", "--nosuch", "--", "--json", variables={}, cwd=tmp_path)
    assert (done.code, done.stdout) == (2, "")


@pytest.mark.parametrize("group", [[], ["hold"], ["db"], ["source"], ["deadletters"]])
async def test_a_group_without_a_command_shows_its_help(tmp_path: Path, group: list[str]) -> None:
    done = await run_ingest(*group, variables={}, cwd=tmp_path)
    assert (done.code, done.stdout) == (2, "")
    name = " ".join(["ingest", *group])
    *shown, error, hint = done.stderr.splitlines()
    assert "Commands:" in shown
    assert error == f"error: {name} wants one of its commands (exit 2)"
    assert hint == f"hint: See `{name} --help`."


async def test_help_and_version_end_well(tmp_path: Path) -> None:
    for arguments in (["--version"], ["--help"], ["sync", "--help", "--json"], ["hold", "-h"]):
        done = await run_ingest(*arguments, variables={}, cwd=tmp_path)
        assert (done.code, done.stderr) == (0, ""), arguments
        assert done.stdout


@pytest.mark.parametrize("more", [[], ["-v"]])
@pytest.mark.parametrize("variables", [BAD, {}, {"S3_ENDPOINT": "http://127.0.0.1:1", "S3_BUCKET": "statements"}])
async def test_check_ends_with_one_whatever_is_wrong(
    tmp_path: Path, variables: dict[str, str], more: list[str]
) -> None:
    keys = {"S3_ACCESS_KEY": "k", "S3_SECRET_KEY": "s"} | variables
    done = await run_ingest("check", "--json", *more, variables=keys, cwd=tmp_path)
    document = only_object(done)
    assert (done.code, document["exit_code"]) == (1, 1)
    assert (document["command"], document["status"], document["steps"]) == ("check", "failed", [])
    assert set(document["error"]) == {"code", "message", "hint"}
    plain = await run_ingest("check", *more, variables=keys, cwd=tmp_path)
    assert plain.code == 1
    assert "S3 CONNECTION TEST FAILED" in plain.stdout
