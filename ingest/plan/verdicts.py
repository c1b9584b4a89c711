"""Whose fault a refusal is: the object's, or that of an address where nobody takes anything.

A mistyped path, a service that is being redeployed and a TLS port that is spoken to in plain text refuse every object,
by the same status codes by which a service refuses one. So a refusal is held until it shows whose it is:

| what is known of the address | refusals alike in a row | then | the refusals are |
|---|---|---|---|
| anything | fewer than `MANY` | another object is taken there | the objects' own |
| anything | `MANY` | | the address's, and so is every further one until it takes something |
| nothing was ever taken there | fewer | nothing is left to try | the address's |
| something was taken, in an earlier run | fewer | nothing is left to try | if `ROUTING` the address's, else their own |
| something was taken in this run | fewer | nothing is left to try | their own |

What was refused before, and is refused again after another was taken, is at fault itself: then nothing is held. What
the address is blamed for waits, and nothing counts against it.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Generic, TypeVar

T = TypeVar("T")
MANY = 5
"""As many refusals, by one status code and with nothing taken in between, are no coincidence."""
ROUTING = frozenset({400, 404, 410})
"""What a proxy, or another service at the same host, says of any path, whatever was taken there before."""


class Whose(StrEnum):
    HELD = "held"
    OBJECT = "object"
    ADDRESS = "address"


@dataclass
class Verdicts(Generic[T]):
    """The refusals that are held, with whatever belongs to each. `ever` and `now`: whether anything was taken at this
    address, in any run and in this one."""

    ever: bool = False
    now: bool = False
    is_astray: bool = False
    """The address is at fault, as far as anybody can tell."""
    held: list[tuple[float, T]] = field(default_factory=list)
    """Each with the time of its refusal."""
    row: int = 0
    """Refusals alike, with nothing taken in between."""
    _status: int = 0

    def refused(self, status: int, one: T, at: float) -> Whose:
        """Of `one`, which is kept if it is held. When it is the address's, so are all that are held: see `released`."""
        self.row = self.row + 1 if status == self._status else 1
        self._status = status
        if self.is_astray or self.row >= MANY:
            self.is_astray = True
            return Whose.ADDRESS
        self.held.append((at, one))
        return Whose.HELD

    def taken(self, sent: float) -> list[T]:
        """The address took what was sent at this time: what was refused before that is the objects' own fault.

        What was under way already when others were refused may have met the address as it was before.
        """
        self.ever = self.now = True
        self.is_astray = False
        self.row = 0
        own = [one for at, one in self.held if at <= sent]
        self.held = [(at, one) for at, one in self.held if at > sent]
        return own

    def ended(self) -> Whose:
        """Whose the held ones are, with nothing left to try. The address stays blamed until it takes something."""
        own = self.now if self._status in ROUTING else self.ever
        self.is_astray = not own
        return Whose.OBJECT if own else Whose.ADDRESS

    def released(self) -> list[T]:
        """What was held, which is not any more."""
        released, self.held = [one for _, one in self.held], []
        return released
