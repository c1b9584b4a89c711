"""A page's decisions are those of the policy, key for key, whatever stands in the page, the catalog and the selection."""

from __future__ import annotations

from collections import Counter
from datetime import UTC, datetime, timedelta

from hypothesis import given
from hypothesis import strategies as st

from ingest.model import Action, CatalogRow, Counts, MarkGone, Outcome, Pair, Record, RemoteObject, Skip, State, Status
from ingest.plan.decide_page import PageDecision, decide_page
from ingest.plan.policy import decide
from ingest.plan.selection import Selection
from ingest.plan.tally import tally, tally_many

NOW = datetime(2026, 3, 1, tzinfo=UTC)
MOMENTS = [NOW + timedelta(days=days) for days in (-2, -1, 0, 1)]
KEYS = ["a", "a/", "b", "b/x", "c/"]

remotes = st.builds(
    RemoteObject,
    st.sampled_from(KEYS),
    st.integers(0, 1),
    st.sampled_from(["e1", "e2"]),
    st.sampled_from(MOMENTS),
    st.sampled_from(["STANDARD", "GLACIER"]),
)
rows = st.builds(
    CatalogRow,
    st.sampled_from(KEYS),
    st.integers(0, 1),
    st.sampled_from(["e1", "e2"]),
    st.sampled_from([state.value for state in State]),
    st.booleans(),
    st.none(),
    st.integers(0, 1),
    seen=st.integers(0, 3),
)
globs = st.lists(st.sampled_from(["a*", "*/", "b", "*"]), max_size=1).map(tuple)
selections = st.builds(
    Selection,
    include=globs,
    exclude=globs,
    since=st.none() | st.sampled_from(MOMENTS),
    until=st.none() | st.sampled_from(MOMENTS),
)


def by_the_policy(listed: list[RemoteObject], known: dict[str, CatalogRow], selection: Selection) -> list[Action]:
    """One decision for each key, in the listing's order; what the catalog alone has behind it."""
    first: dict[str, RemoteObject] = {}
    for remote in listed:
        first.setdefault(remote.key, remote)
    pairs = [Pair(remote, known.get(key)) for key, remote in first.items()]
    pairs += [Pair(None, row) for key, row in known.items() if key not in first]
    return [action for pair in pairs for action in decide(pair, selection)]


def counted(found: PageDecision) -> Counts:
    """What the engine counts of a page."""
    counts = Counts()
    tally_many(counts, found.unchanged, len(found.skipped) + len(found.known))
    for action in [*found.actions, *map(MarkGone, found.gone)]:
        tally(counts, Outcome(action, Status.DONE))
    return counts


@given(st.lists(remotes, max_size=8), st.lists(rows, max_size=5, unique_by=lambda row: row.key), selections)
def test_a_page_is_decided_as_its_keys_are(
    listed: list[RemoteObject], catalog: list[CatalogRow], selection: Selection
) -> None:
    known = {row.key: row for row in catalog}
    expected = by_the_policy(listed, dict(known), selection)
    found = decide_page(listed, dict(known), selection, all_rows=True)
    skips = [action for action in expected if isinstance(action, Skip)]
    assert found.unchanged == sum(skip.unchanged for skip in skips)
    assert found.skipped == [skip.remote.key for skip in skips if not skip.unchanged]
    recorded = [Record(remote, str(selection.unwanted(remote))) for remote in found.known]
    gone = [MarkGone(row) for row in found.gone]
    rest = [action for action in expected if not isinstance(action, Skip)]
    assert Counter(map(str, [*found.actions, *gone, *recorded])) == Counter(map(str, rest))
    assert found.actions == [action for action in rest if action in found.actions]  # in the order of the listing
    counts = Counts()
    for action in expected:
        tally(counts, Outcome(action, Status.DONE))
    assert counted(found) == counts


@given(st.lists(remotes, max_size=8), st.lists(rows, max_size=5, unique_by=lambda row: row.key), selections)
def test_nothing_is_gone_where_not_all_rows_are_known(
    listed: list[RemoteObject], catalog: list[CatalogRow], selection: Selection
) -> None:
    known = {row.key: row for row in catalog}
    some = decide_page(listed, dict(known), selection, all_rows=False)
    everything = decide_page(listed, dict(known), selection, all_rows=True)
    assert some.gone == []
    assert some.actions == everything.actions
    assert (some.unchanged, some.skipped, some.known) == (everything.unchanged, everything.skipped, everything.known)
