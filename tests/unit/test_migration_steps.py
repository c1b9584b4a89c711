"""What people are told of a migration before it is done or undone."""

from __future__ import annotations

import pytest

from ingest.catalog.schema import migrations
from ingest.errors import SettingsError


@pytest.mark.parametrize("step", migrations.steps(), ids=lambda step: step.revision)
def test_each_step_says_what_it_does_and_what_its_way_back_loses(step: migrations.Step) -> None:
    """By the first paragraph of its docstring, and by the line `LOSES` beside its revision."""
    assert step.does.endswith(".")
    assert step.loses, f"{step.revision} wants LOSES, in a few words: what a downgrade takes with it"
    assert not step.loses.endswith(".")


def test_the_ways() -> None:
    known = migrations.revisions()
    assert [step.revision for step in migrations.way_up(None)] == known
    assert [step.revision for step in migrations.way_up("0005")] == known[5:]
    assert migrations.way_up(known[-1]) == []
    assert [step.revision for step in migrations.way_down("0004", "0002")] == ["0004", "0003"]
    assert [step.revision for step in migrations.way_down("0002", migrations.BASE)] == ["0002", "0001"]
    for to in ("0004", "0005", "7777", "head", ""):
        with pytest.raises(SettingsError):
            migrations.way_down("0004", to)
