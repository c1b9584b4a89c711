"""How many objects may be gone at once before it is taken for a mistake: another bucket, or one that is half there."""

from __future__ import annotations

from typing import NamedTuple


class MostGone(NamedTuple):
    """At most `number` objects, or at most `percent` of those that the catalog holds as in the bucket; one of the two.

    Of fewer than `least` live objects any number may be gone.
    """

    number: int | None = None
    percent: float | None = None
    least: int = 0

    def allows(self, gone: int, live: int, unmarked: int = 0) -> bool:
        """Of `live` objects that were looked for, `gone` are not listed.

        `unmarked` is how many the run before missed and did not mark: while more than half as many are missing, nothing
        has been explained, also where another bucket's objects have come on record since and made the share smaller.
        """
        if gone * 2 > unmarked > 0:
            return False
        if live < self.least:
            return True
        if self.number is not None:
            return gone <= self.number
        return self.percent is None or gone * 100 <= self.percent * live

    def __str__(self) -> str:
        return str(self.number) if self.number is not None else f"{self.percent or 100:g}%"


MOST_GONE = MostGone(percent=50, least=100)
"""Unless something else is said."""
