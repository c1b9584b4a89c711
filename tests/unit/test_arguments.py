"""Arguments that no job can work with end with 2, and the message names the flag."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from click.testing import CliRunner

from ingest.cli import COMMANDS, main
from ingest.cli.params import Count

BAD = "\udcff"
"""What Python makes of the byte 0xFF on a command line."""
HUGE = "9" * 20
FAR = "9" * 400

WRONG = [
    (["sync", "--transfers", "²"], "--transfers"),
    (["sync", "--transfers", "9" * 5000], "--transfers"),
    (["sync", "--listers", "²"], "--listers"),
    (["backfill", "--since", "2024-01-01", "--listers", "٣"], "--listers"),
    (["sync", "--bwlimit", FAR], "--bwlimit"),
    (["sync", "--bwlimit", "10"], "--bwlimit"),
    (["backfill", "--since", "2024-01-01", "--bwlimit", "1.5"], "--bwlimit"),
    (["restore", "k", "--bwlimit", "0"], "--bwlimit"),
    (["sync", "--older-than", "0001-01-01T00:00:00+14:00"], "--older-than"),
    (["sync", "--older-than", "9999-12-31T23:59:59-14:00"], "--older-than"),
    (["sync", "--newer-than", "0001-01-01T00:00:00+14:00"], "--newer-than"),
    (["sync", "--newer-than", "99999999d"], "--newer-than"),
    (["backfill", "--since", "0001-01-01T00:00:00+14:00"], "--since"),
    (["backfill", "--since", "2024-01-01", "--until", "9999-12-31T23:59:59-14:00"], "--until"),
    (["cleanup", "--older-than", "99999999d"], "--older-than"),
    (["cleanup", "--older-than", f"{'9' * 5000}d"], "--older-than"),
    (["cleanup", "--max-delete", HUGE], "--max-delete"),
    (["consume", "--patience", "99999999d"], "--patience"),
    (["consume", "--until-idle", "99999999d"], "--until-idle"),
    (["runs", "--limit", HUGE], "--limit"),
    (["ls", "--limit", HUGE], "--limit"),
    (["deliver", "--limit", HUGE], "--limit"),
    (["deadletters", "list", "--limit", HUGE], "--limit"),
    (["deadletters", "retry", HUGE], "ID"),
    (["sync", "--prefix", BAD], "--prefix"),
    (["sync", "--include", BAD], "--include"),
    (["sync", "--exclude", BAD], "--exclude"),
    (["sync", "--region", BAD], "--region"),
    (["sync", "--data-dir", BAD], "--data-dir"),
    (["sync", "--env-file", BAD], "--env-file"),
    (["backfill", "--since", "2024-01-01", "--prefix", BAD], "--prefix"),
    (["restore", "--prefix", BAD], "--prefix"),
    (["restore", BAD], "KEY"),
    (["restore", "k", "--to", BAD], "--to"),
    (["verify", "--prefix", BAD], "--prefix"),
    (["hold", "add", "--prefix", BAD, "--reason", "x"], "--prefix"),
    (["hold", "add", "k", "--reason", BAD], "--reason"),
    (["hold", "remove", BAD], "KEY"),
    (["ls", BAD], "PREFIX"),
    (["history", BAD], "KEY"),
    (["check", "--download", BAD], "--download"),
    (["check", "--save-ca", BAD], "--save-ca"),
    (["demo", "--dir", BAD], "--dir"),
]


@pytest.mark.parametrize(("arguments", "named"), WRONG, ids=lambda value: ascii(value)[:60])
def test_it_is_wrong_usage(arguments: list[str], named: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name in [name for name in os.environ if name.startswith(("S3_", "KAFKA_", "VERIFY_"))]:
        monkeypatch.delenv(name)
    done = CliRunner().invoke(main, arguments)
    assert done.exit_code == 2, done.output
    assert f"Invalid value for '{named}" in done.stderr or f"Invalid value for '[{named}" in done.stderr, done.stderr
    assert list(tmp_path.iterdir()) == []


def commands(group: click.Group, path: str = "") -> Iterator[tuple[str, click.Command]]:
    context = click.Context(group)
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        if isinstance(command, click.Group):
            yield from commands(command, f"{path}{name} ")
        elif command is not None:
            yield f"{path}{name}", command


@pytest.mark.parametrize(("name", "command"), list(commands(main)))
def test_no_command_takes_texts_or_numbers_as_they_come(name: str, command: click.Command) -> None:
    """`cli/params.py` has a type for each kind of argument."""
    loose = {param.opts[0] for param in command.params if param.type in (click.STRING, click.INT)}
    assert loose == set()
    for kind in (param.type for param in command.params):
        assert not isinstance(kind, click.IntRange) or isinstance(kind, Count) or kind.max is not None


def test_there_are_commands_to_look_at() -> None:
    assert {name.split()[0] for name, _ in commands(main)} == set(COMMANDS)
