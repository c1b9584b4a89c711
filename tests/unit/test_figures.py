"""The figures of each command: their names in the ``--json`` object, in their order, and what counts as a tally."""

from __future__ import annotations

from dataclasses import asdict, fields
from importlib import import_module
from pkgutil import iter_modules

import pytest

import ingest.jobs
from ingest.figures import Figures
from ingest.jobs.cleanup import CleanupFigures
from ingest.jobs.consume import ConsumeFigures
from ingest.jobs.deadletters import DiscardedLetters, RetriedLetters
from ingest.jobs.deliver import DeliverFigures
from ingest.jobs.hold import PlacedHolds, ReleasedHolds
from ingest.jobs.restore import RestoreFigures
from ingest.jobs.sync import SyncFigures
from ingest.jobs.verify import VerifyFigures
from ingest.model import Counts, RunReport
from ingest.observe.report import as_json, as_line, frame

SAID: list[tuple[Figures, dict[str, object]]] = [
    (Figures(), {}),
    (SyncFigures(), {}),
    (SyncFigures(dry_run=True), {"dry_run": True}),
    (SyncFigures(unannounced=0), {"unannounced": 0}),
    (CleanupFigures(missing=2, only_copies=1), {"missing": 2, "only_copies": 1}),
    (
        CleanupFigures(dry_run=True, trimmed_runs=3, trimmed_letters=4),
        {"dry_run": True, "trimmed_runs": 3, "trimmed_letters": 4},
    ),
    (VerifyFigures(1, 2, 3, 4), {"orphaned": 1, "symlinks": 2, "checked": 3, "missing": 4}),
    (RestoreFigures("/elsewhere/b"), {"written_below": "/elsewhere/b"}),
    (PlacedHolds(2, 0), {"placed": 2, "held": 0}),
    (ReleasedHolds(1), {"released": 1}),
    (DeliverFigures(0, 0), {"waiting_elsewhere": 0, "refused_elsewhere": 0}),
    (RetriedLetters(3, 2, 1), {"retried": 3, "settled": 2, "dead_letters": 1}),
    (DiscardedLetters(3, dry_run=False), {"discarded": 3, "dry_run": False}),
    (
        ConsumeFigures(1, 2, 3, 4, 5, 6, 7),
        {
            "messages": 1,
            "events": 2,
            "foreign": 3,
            "waiting": 4,
            "dead_letters": 5,
            "lost": 6,
            "unpublished": 7,
        },
    ),
]


@pytest.mark.parametrize(("found", "said"), SAID)
def test_the_object_says_them_last_and_in_their_order(found: Figures, said: dict[str, object]) -> None:
    report = RunReport("sync", figures=found)
    fixed = [*frame("sync"), *asdict(Counts()), "seconds"]
    document = as_json(report)
    assert list(document) == [*fixed, *said]
    assert {name: document[name] for name in said} == said
    numbers = {name: value for name, value in said.items() if type(value) is int}
    assert report.tallies == asdict(Counts()) | numbers


def test_every_kind_stands_in_the_table_and_is_called_as_nothing_that_every_command_says() -> None:
    fixed = {*frame("sync"), *asdict(Counts()), "seconds"}
    jobs = [import_module(f"ingest.jobs.{found.name}") for found in iter_modules(ingest.jobs.__path__)]
    kinds = {
        kind for job in jobs for kind in vars(job).values() if isinstance(kind, type) and issubclass(kind, Figures)
    }
    assert {type(found) for found, _ in SAID} == kinds
    assert all(fixed.isdisjoint(field.name for field in fields(kind)) for kind in kinds)


@pytest.mark.parametrize(
    ("command", "found", "line"),
    [
        ("sync", SyncFigures(dry_run=True), "sync ok (dry run): 0 listed in 0.0 s"),
        ("cleanup", CleanupFigures(trimmed_runs=3), "cleanup ok: 3 trimmed runs in 0.0 s"),
        ("restore", RestoreFigures("/x/b"), "restore ok: nothing to do below /x/b in 0.0 s"),
        (
            "deadletters discard",
            DiscardedLetters(2, dry_run=False),
            "deadletters discard ok: 2 discarded in 0.0 s",
        ),
    ],
)
def test_the_line_for_people(command: str, found: Figures, line: str) -> None:
    assert as_line(RunReport(command, figures=found)) == line
