"""What has left of a request's body moves the clock of its time-out."""

from __future__ import annotations

from typing import Any, cast

from ingest.http.sending import Sending
from ingest.http.timeouts import Timeouts, Watch


class Transport:
    """Takes everything, and sends as much as it is told to."""

    def __init__(self) -> None:
        self.handed, self.left = 0, 0

    def write(self, data: bytes) -> None:
        self.handed += len(data)

    def get_write_buffer_size(self) -> int:
        return self.handed - self.left


async def test_a_body_on_its_way_is_no_silence() -> None:
    async def woken() -> None: ...

    transport = Transport()
    sending = Sending(woken, lambda: False)
    times = Timeouts(idle=60)
    watch = Watch()
    watch.start(0.0)
    await sending.send(b"head", bytes(10_000_000), cast("Any", transport))

    def overdue(now: float) -> str | None:
        return watch.overdue(now, sending.moved(cast("Any", transport)), held=False, timeouts=times)

    assert overdue(59.0) is None
    transport.left = 1_000_000
    assert overdue(61.0) is None, "no byte came back, but a million has gone out"
    transport.left = 9_000_000
    assert overdue(120.0) is None
    assert overdue(179.0) is None
    assert overdue(181.0) is not None, "nothing moved for a minute"
    sending.start()
    assert sending.moved(cast("Any", transport)) == 0
