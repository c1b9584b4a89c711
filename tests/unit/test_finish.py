"""A run ends in one place: everyone who wants to know is told, whatever the others do."""

from __future__ import annotations

import logging

import pytest

from ingest.errors import DiskError, IngestError, SettingsError
from ingest.model import RunReport
from ingest.observe.report import finish


def failing(error: Exception) -> None:
    raise error


def test_all_are_told_in_order_and_one_that_breaks_is_said(caplog: pytest.LogCaptureFixture) -> None:
    report, told = RunReport("sync", exit_code=3), list[str]()
    listeners = (
        lambda _: told.append("first"),
        lambda _: failing(KeyError("pushed")),
        lambda found: told.append(found.command),
    )
    with caplog.at_level(logging.ERROR, "ingest"):
        finish(report, listeners)
    assert (told, report.exit_code, report.error) == (["first", "sync"], 3, None)
    assert "listener_failed" in caplog.text
    assert "KeyError" in caplog.text


def test_the_first_error_of_ours_is_raised_when_all_are_told() -> None:
    report, told = RunReport("sync", error=SettingsError("the run's own")), list[str]()
    listeners = (
        lambda _: failing(DiskError("the output cannot be written")),
        lambda _: failing(IngestError("another")),
        lambda found: told.append(found.command),
    )
    with pytest.raises(DiskError):
        finish(report, listeners)
    assert told == ["sync"]
    assert isinstance(report.error, SettingsError)


def test_nobody_has_to_listen() -> None:
    finish(RunReport("sync"), ())
