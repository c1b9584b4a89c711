"""What the answer to a delivery means, and when to try again.

| answer | ruling | then |
|---|---|---|
| 2xx | delivered | recorded with the response |
| 2xx with a web page | endpoint | a login, or a proxy's own page: nobody has taken anything |
| 429 | busy | everything waits for `Retry-After`, or, where it is not told, for a growing pause |
| 408, 425, 5xx, no answer in time, connection lost | fault | again after a growing pause; five in a row open it |
| 3xx, 401, 402, 403, 405, 406, 407, 411, 421, 426, 431 | endpoint | the circuit opens; nothing counts against objects |
| 501, 505, 511, no connection, TLS | endpoint | the same |
| one of these, while others are delivered | fault | as above: it is this object's own trouble |
| any other 4xx | rejected | the service's verdict, unless `plan.verdicts` finds that it is the address's fault |
"""

from __future__ import annotations

from enum import StrEnum

MOST_DELIVERIES = 30
"""After as many the object is given up: with the pauses below, about four days."""
FIRST_PAUSE, LONGEST_PAUSE = 1.0, 6 * 3600.0
"""Seconds before the first and at most before any further attempt."""
LONGEST_RETRY_AFTER = 3600.0
"""Seconds that a service may ask for; more is cut."""


class Ruling(StrEnum):
    DELIVERED = "delivered"
    REJECTED = "rejected"
    BUSY = "busy"
    FAULT = "fault"
    ENDPOINT = "endpoint"


_ENDPOINT = frozenset({401, 402, 403, 405, 406, 407, 411, 421, 426, 431, 501, 505, 511})
"""About credentials, the method, the connection, or headers that are the same for every object."""
_PAGES = ("<!doctype html", "<html")


def rule(status: int, body: str = "") -> Ruling:
    """The ruling on an answer's status code, and on the body of one that says yes."""
    if 200 <= status < 300:
        is_page = body[:1000].lstrip("\ufeff \t\r\n").lower().startswith(_PAGES)
        return Ruling.ENDPOINT if is_page else Ruling.DELIVERED
    if status == 429:
        return Ruling.BUSY
    if status < 400 or status in _ENDPOINT:
        return Ruling.ENDPOINT
    if status in (408, 425) or status >= 500:
        return Ruling.FAULT
    return Ruling.REJECTED


def pause_after(attempts: int, jitter: float) -> float:
    """Seconds to the next attempt after `attempts` (from 1) failed; `jitter` is from 0 to 1, and takes up to half."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 30))
    return longest * (1.0 - jitter / 2)
