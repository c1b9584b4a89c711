"""What is left in memory of a message that is settled."""

from __future__ import annotations

import gc
import weakref
from typing import Any, cast

import pytest

from ingest.broker.messages import Letter, Parser
from ingest.events.by_key import ByKey
from ingest.events.in_flight import InFlight
from ingest.source.paths import normalise_key


class Witness:
    """Lives as long as the errand that it is told of."""

    def __init__(self) -> None:
        self.reasons: list[str] = []

    def __call__(self, flight: InFlight) -> None:
        assert flight.error is not None
        self.reasons.append(flight.error.message)


@pytest.mark.parametrize("value", [None, b"\0", b'{"x": ', b"\xff", b"{}", b'{"s3_path": 1}', b"x" * (1 << 21)])
async def test_poison_is_let_go_at_once(value: bytes | None) -> None:
    """Not when somebody looks for circles of objects, which is seldom: a topic may be full of large ones."""
    nothing = cast(Any, None)
    by_key = ByKey(Parser("b", normalise_key), nothing, nothing, 1, nothing, {})
    gc.disable()
    try:
        witness = Witness()
        reasons, alive = witness.reasons, weakref.ref(witness)
        by_key.take([InFlight(Letter("t", 0, 1, None, value), witness)])
        del witness
        assert alive() is None
    finally:
        gc.enable()
    assert len(reasons) == 1
    assert (by_key.in_flight, by_key.bytes_in_flight) == (0, 0)
