"""The gate under a clock of our own: whose fault it is, and what has to wait for it."""

from __future__ import annotations

from collections.abc import Callable
from math import inf
from typing import NamedTuple

import pytest

from ingest.errors import (
    ConnectionLost,
    ConnectionRefused,
    NameNotResolved,
    ServerFault,
    SlowDown,
    SourceError,
    TlsError,
)
from ingest.plan.gate import (
    CROWD,
    LONGEST_HOLD,
    LONGEST_PAUSE,
    MOST_ALONE,
    START_PATIENCE,
    Blame,
    Gate,
    RequestKind,
    Trial,
)

BYTES, NAMES = RequestKind.BYTES, RequestKind.NAMES


def gate_at_work(patience: float = 300.0) -> Gate:
    gate = Gate(patience)
    for kind in RequestKind:
        gate.answered(kind, 0.0)
    return gate


def trial(error: SourceError | None = None, kind: RequestKind = BYTES) -> Trial:
    return Trial(kind, error or ServerFault("500"), "key")


def closed(gate: Gate) -> RequestKind | None:
    """Read anew each time: a type checker takes what it saw once for the rest of the function."""
    return gate.closed


class Row(NamedTuple):
    """A request fails at 1.0; then something happens, and its turn comes."""

    said: str
    error: SourceError
    then: Callable[[Gate], object]
    verdict: Blame


def outage(gate: Gate) -> None:
    gate.close(BYTES, 1.1)
    gate.probe_failed(1.2)
    gate.probe_answered(2.0, 2.1)


def blip(gate: Gate) -> None:
    gate.close(BYTES, 1.1)
    gate.probe_answered(1.2, 1.3)


def another_refused(gate: Gate) -> None:
    gate.refused(trial(SlowDown("503")), 1.1, 1.2, None)


FAULT, BUSY = ConnectionLost("broke"), SlowDown("503")
ROWS = [
    Row("nothing", FAULT, lambda gate: None, Blame.UNKNOWN),
    Row("an answer to what was sent before", FAULT, lambda gate: gate.answered(BYTES, 0.9), Blame.UNKNOWN),
    Row("an answer of another kind", FAULT, lambda gate: gate.answered(NAMES, 1.5), Blame.UNKNOWN),
    Row("an answer", FAULT, lambda gate: gate.answered(BYTES, 1.0), Blame.OWN),
    Row("an outage", FAULT, outage, Blame.AGAIN),
    Row("the first probe is answered", FAULT, blip, Blame.OWN),
    Row("nothing, and it is to wait", BUSY, lambda gate: None, Blame.AGAIN),
    Row("another refusal", BUSY, another_refused, Blame.UNKNOWN),
    Row("an answer, and it is to wait", BUSY, lambda gate: gate.answered(BYTES, 1.0), Blame.AGAIN),
    Row("an outage, and it is to wait", BUSY, outage, Blame.AGAIN),
]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.said)
def test_whose_fault_it_is(row: Row) -> None:
    gate, failed = gate_at_work(), trial(row.error)
    if isinstance(row.error, SlowDown):
        gate.refused(failed, 0.5, 1.0, None)
    else:
        gate.failed(failed, 1.0)
    assert closed(gate) is None
    row.then(gate)
    assert gate.judge(failed) is row.verdict


def test_one_that_alone_is_asked_to_wait_is_given_up() -> None:
    gate, busy, verdicts = gate_at_work(), trial(BUSY), []
    for now in range(1, MOST_ALONE + 1):
        gate.refused(busy, now - 0.5, now, None)
        gate.answered(BYTES, now + 0.1)
        verdicts.append(gate.judge(busy))
    assert verdicts == [Blame.AGAIN] * (MOST_ALONE - 1) + [Blame.OWN]


def test_while_others_are_asked_as_well_it_is_not() -> None:
    gate, busy = gate_at_work(), trial(BUSY)
    for now in range(1, MOST_ALONE + 5):
        gate.refused(busy, now - 0.5, now, None)
        gate.refused(trial(BUSY), now - 0.5, now + 0.05, None)
        gate.answered(BYTES, now + 0.1)
        assert gate.judge(busy) is Blame.AGAIN


def test_none_is_tried_for_ever() -> None:
    gate, busy, tries = gate_at_work(), trial(BUSY), 0
    verdict = Blame.AGAIN
    while verdict is Blame.AGAIN:
        tries += 1
        gate.refused(busy, tries - 0.5, tries, None)
        gate.refused(trial(BUSY), tries - 0.5, tries, None)
        gate.answered(BYTES, tries + 0.1)
        verdict = gate.judge(busy)
    assert (verdict, tries) == (Blame.OWN, 20)


def test_what_brings_the_server_down_each_time_is_given_up() -> None:
    gate, failed, now, verdicts = gate_at_work(), trial(), 0.0, []
    for _ in range(12):
        now += 10
        gate.failed(failed, now)
        gate.close(BYTES, now)
        gate.probe_failed(now + 1)
        gate.probe_answered(now + 2, now + 2)
        verdicts.append(gate.judge(failed))
    assert verdicts == [Blame.AGAIN] * 10 + [Blame.OWN] * 2


@pytest.mark.parametrize("error", [ConnectionRefused("x"), NameNotResolved("x"), TlsError("x")])
def test_where_nobody_listens_it_closes_at_once(error: SourceError) -> None:
    gate = gate_at_work()
    gate.failed(trial(error), 1.0)
    assert closed(gate) is BYTES
    assert gate.shut(1.0)
    assert gate.wait(1.0) == float("inf")


def test_many_at_once_close_it_and_none_of_them_is_charged() -> None:
    gate, failed = gate_at_work(), [trial() for _ in range(CROWD)]
    for each in failed:
        assert closed(gate) is None
        gate.failed(each, 1.0)
    assert closed(gate) is BYTES
    gate.probe_answered(1.5, 1.6)
    assert {gate.judge(each) for each in failed} == {Blame.AGAIN}
    assert not gate.shut(1.6)
    for each in failed:
        gate.failed(each, 2.0)
    gate.probe_answered(2.5, 2.6)
    assert {gate.judge(each) for each in failed} == {Blame.OWN}, "the first probe was answered again"


def test_answers_in_between_are_no_crowd() -> None:
    gate = gate_at_work()
    for now in range(1, 100):
        gate.failed(trial(), now)
        gate.answered(BYTES, now)
    assert closed(gate) is None


def test_the_pauses_between_probes_grow_up_to_a_bound() -> None:
    gate = gate_at_work()
    gate.close(BYTES, 0.0)
    pauses = [gate.next_probe(0.0, 0.5) for _ in range(12)]
    assert pauses[0] == 0.1
    assert pauses == sorted(pauses)
    assert pauses[-1] == LONGEST_PAUSE
    gate.probe_answered(1.0, 1.0)
    gate.close(BYTES, 2.0)
    assert gate.next_probe(2.0, 0.0) == 0.05


@pytest.mark.parametrize(
    ("gate", "patience"),
    [(gate_at_work(300.0), 300.0), (Gate(300.0), START_PATIENCE), (Gate(1.0), 1.0), (gate_at_work(1.0), 1.0)],
    ids=["it worked", "it never did", "it never did, and little is had", "little is had"],
)
def test_patience_ends(gate: Gate, patience: float) -> None:
    gate.close(BYTES, 10.0)
    gate.probe_failed(10.0 + patience - 0.01)
    assert not gate.lost
    assert gate.next_probe(10.0 + patience - 0.01, 1.0) <= 0.0101
    gate.probe_failed(10.0 + patience)
    assert gate.lost
    assert gate.shut(1e9)


@pytest.mark.parametrize("gate", [gate_at_work(inf), Gate(inf)], ids=["it worked", "it never did"])
def test_whoever_is_patient_without_end_waits_without_end(gate: Gate) -> None:
    gate.close(BYTES, 0.0)
    gate.probe_failed(1e9)
    assert not gate.lost
    assert gate.next_probe(1e9, 0.5) <= LONGEST_PAUSE


@pytest.mark.parametrize(
    ("asked", "held"), [(None, 0.0), (0.0, 0.0), (7.0, 7.0), (LONGEST_HOLD, LONGEST_HOLD), (86_400.0, LONGEST_HOLD)]
)
def test_a_pause_that_is_asked_for_holds_everything(asked: float | None, held: float) -> None:
    gate = gate_at_work()
    gate.refused(trial(BUSY), 0.5, 1.0, asked)
    assert gate.wait(1.0) == pytest.approx(held, abs=0.1)
    gate.close(BYTES, 1.0)
    assert gate.next_probe(1.0, 0.0) == pytest.approx(max(held, 0.05))


def test_a_pause_that_only_one_request_needed_is_believed_less_each_time() -> None:
    gate = gate_at_work()
    for round_ in range(3):
        busy, now = trial(BUSY), 1_000.0 * (round_ + 1)
        for again in range(MOST_ALONE):
            gate.refused(busy, now - 0.5, now, 86_400.0)
            assert gate.wait(now) <= (LONGEST_HOLD / 2**round_ if not again else 2.5)
            now += max(gate.wait(now), 1.0)
            gate.answered(BYTES, now)
            gate.judge(busy)


def test_a_pause_is_no_longer_than_the_patience() -> None:
    gate = gate_at_work(5.0)
    gate.refused(trial(BUSY), 0.5, 1.0, 30.0)
    assert gate.wait(1.0) == 5.0
