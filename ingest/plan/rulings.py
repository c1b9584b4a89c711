"""What the answer to a delivery means, and when to try again.

| answer | ruling | then |
|---|---|---|
| 2xx | delivered | recorded with the response |
| 429 | busy | everything waits for `Retry-After`, or, where it is not told, for a growing pause |
| 408, 425, 5xx, no answer in time, connection lost | fault | again after a growing pause; five in a row open it |
| 3xx, 401, 403, 405, 407, no connection, TLS | endpoint | the circuit opens; nothing counts against the object |
| one of these, while others are delivered | fault | as above: it is this object's own trouble |
| any other 4xx | rejected | the service's verdict: recorded, not tried again |
"""

from __future__ import annotations

from enum import StrEnum

MOST_ATTEMPTS = 30
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


def rule(status: int) -> Ruling:
    """The ruling on an answer's status code."""
    if 200 <= status < 300:
        return Ruling.DELIVERED
    if status == 429:
        return Ruling.BUSY
    if status in (408, 425) or status >= 500:
        return Ruling.FAULT
    if status < 400 or status in (401, 403, 405, 407):
        return Ruling.ENDPOINT
    return Ruling.REJECTED


def pause_after(attempts: int, jitter: float) -> float:
    """Seconds to the next attempt after `attempts` (from 1) failed; `jitter` is from 0 to 1, and takes up to half."""
    longest = min(LONGEST_PAUSE, FIRST_PAUSE * 2.0 ** min(attempts - 1, 30))
    return longest * (1.0 - jitter / 2)
