"""Millions of keys as a pure function of their number, in byte order, with bodies whose MD5 is known beforehand.

One key in `every` + 1 is *new*: it is listed only after the server is told so, in the middle of its neighbours.
"""

from __future__ import annotations

import hashlib
import random
from bisect import bisect_left, bisect_right
from collections.abc import Iterator
from datetime import date, timedelta
from functools import lru_cache
from typing import Literal, NamedTuple

Layout = Literal["dates", "flat"]

CUTOFF = "2024-07-01"
"""Between the dates of the old keys and that of the new ones: for ``--newer-than``."""
_FIRST_DAY, _DAYS = date(2016, 1, 1), 2_922
_NEW_DAY = "2025-01-01"
EVERY = 1_000
"""Old keys for a new one, unless told otherwise."""
_BODIES = 251
_FEWEST = 3
"""Keys of a day: small buckets have fewer days."""
_DIGITS, _SUFFIX = 8, b".pdf"


class Body(NamedTuple):
    """What a GET returns; many keys share one."""

    content: bytes
    etag: str


class KeySpace:
    """`count` old keys, and a new one among every `every` of them.

    The layout ``dates`` is ``statements/2019/03/14/ACC-00012345.pdf``; ``flat`` is one directory. All entries of a
    listing have the same length, so that a page is a slice of one block.
    """

    def __init__(self, count: int, layout: Layout = "dates", *, every: int = EVERY) -> None:
        self._every, self._place = every, every // 2
        self.size = self.number(count - 1) + 1 if count else 0
        """All keys, the new ones included."""
        days = [_FIRST_DAY + timedelta(number) for number in range(_DAYS)] if layout == "dates" else [_FIRST_DAY]
        form = "statements/%Y/%m/%d/ACC-" if layout == "dates" else "statements/ACC-"
        self._stems = [day.strftime(form).encode() for day in days]
        self._days = [day.isoformat() for day in days]
        self._each = max(-(-self.size // len(days)), _FEWEST)
        self._bodies = [_body(number) for number in range(_BODIES)]

    def number(self, rank: int) -> int:
        """The number of the old key that `rank` old ones precede."""
        return rank + (rank + self._every - self._place) // self._every

    def rank(self, number: int) -> int:
        """How many old keys have a lower number."""
        return number - (number + self._every - self._place) // (self._every + 1)

    def is_new(self, number: int) -> bool:
        return number % (self._every + 1) == self._place

    def next_new(self, number: int) -> int:
        """The lowest number of a new key that is not below `number`."""
        return number + (self._place - number) % (self._every + 1)

    def key(self, number: int) -> bytes:
        return b"%b%0*d%b" % (self._stems[number // self._each], _DIGITS, number, _SUFFIX)

    def find(self, key: bytes) -> int | None:
        """The number of a key; None when there is none like it."""
        digits = key[-_DIGITS - len(_SUFFIX) : -len(_SUFFIX)]
        if not digits.isdigit() or int(digits) >= self.size or self.key(int(digits)) != key:
            return None
        return int(digits)

    def behind(self, text: bytes) -> int:
        """The number of the first key greater than `text`."""
        found = self.find(text)
        return bisect_right(range(self.size), text, key=self.key) if found is None else found + 1

    @lru_cache(maxsize=4_096)  # noqa: B019 - one key space lives as long as its process
    def bounds(self, prefix: bytes) -> tuple[int, int]:
        """The numbers of the first key with `prefix`, and of the first one behind them."""
        if not prefix:
            return 0, self.size
        first = bisect_left(range(self.size), prefix, key=self.key)
        return first, bisect_right(range(self.size), prefix, lo=first, key=lambda at: self.key(at)[: len(prefix)])

    def body(self, number: int) -> Body:
        return self._bodies[number % _BODIES]

    def modified(self, number: int) -> str:
        """ISO 8601, to the second, UTC."""
        day = _NEW_DAY if self.is_new(number) else self._days[number // self._each]
        return f"{day}T03:04:05"

    def entries(self, first: int, last: int) -> Iterator[bytes]:
        """The ``<Contents>`` of the keys `first` to before `last`, as MinIO writes them."""
        for number in range(first, last):
            content, etag = self.body(number)
            yield (
                b"<Contents><Key>%b</Key><LastModified>%b.000Z</LastModified><ETag>&#34;%b&#34;</ETag><Size>%d</Size>"
                b"<StorageClass>STANDARD</StorageClass></Contents>"
                % (self.key(number), self.modified(number).encode(), etag.encode(), len(content))
            )


def _body(number: int) -> Body:
    content = random.Random(number).randbytes(100 + 3 * number)
    return Body(content, hashlib.md5(content, usedforsecurity=False).hexdigest())
