"""What to think of bytes that do not match their object's etag: are they damaged, or is the etag no MD5?

An etag proves bytes only where it is an MD5 and they match. Where it does not match, a checksum that is stored with the
object decides. Where there is none, two downloads that agree show that nothing happens to the bytes on their way: then
the etag is no MD5, unless etags of that shape were seen to be MD5s on this server (docs/decisions/0019).
"""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from dataclasses import dataclass

from ingest.errors import DamagedTransfer
from ingest.model import Verified
from ingest.observe.logs import log
from ingest.plan.checks import Algorithm, Check, Hashed
from ingest.plan.etags import Etags, Shape, is_made_up, shape_of


@dataclass
class Doubts:
    """Shared by the downloads of one bucket. While nothing is known of a shape, one that is in doubt waits for the
    small ones that are under way: one match among them settles it."""

    etags: Etags
    _under_way: int = 0
    _waiting: int = 0
    _news: asyncio.Event | None = None
    """Set at the next change; there while somebody waits for it."""
    _said: bool = False
    _known: frozenset[Shape] = frozenset()
    """The shapes that were known to be none before."""

    def __post_init__(self) -> None:
        self._known = frozenset(self.etags.opaque)

    def __enter__(self) -> None:
        """Around the download of an object that needs nothing more to come to its end: one that waits for memory, which
        those in doubt hold, would be waited for in vain."""
        self._under_way += 1

    def __exit__(self, *_: object) -> None:
        self._under_way -= 1
        self._tell()

    def matched(self, check: Check, size: int) -> None:
        """`size` bytes are what `check` expects. That nothing is the MD5 of no bytes proves nothing."""
        shape = _shape(check)
        if shape is not None and size and shape not in self.etags.proven:
            self.etags.matched(shape)
            self._tell()

    def by_stored(self, found: Hashed, check: Check, key: str) -> Hashed:
        """The verdict where `check` did not match, and `found` is by the checksum that is stored with the object.

        Raises:
            DamagedTransfer: neither matches.
        """
        if found.verdict is None:
            raise DamagedTransfer(f"{key!r}: received bytes that do not match the checksum stored with it")
        shape = _shape(check)
        if shape is not None:
            self.etags.differed(shape)
            self._tell()
        return found

    async def verdict(
        self, found: Hashed, check: Check, earlier: Collection[str], key: str, *, is_large: bool = False
    ) -> Hashed:
        """What bytes that do not match are: unverifiable. `earlier` are the digests of earlier downloads of them,
        `is_large` says that it was not entered for this one.

        Raises:
            DamagedTransfer: they are damaged, as far as can be told now; it says their digest.
        """
        shape = _shape(check)
        agreed = found.digest in earlier
        if shape is None or not await self._is_none(shape, check, agreed=agreed, waits_as=0 if is_large else 1):
            raise DamagedTransfer(
                f"{key!r}: received bytes that do not match what the server says of them", digest=found.digest
            )
        self._say(shape, key)
        return Hashed(found.digest, Verified.UNVERIFIABLE)

    def _say(self, shape: Shape, key: str) -> None:
        """Once a run, and to be heard only in the one that learns it."""
        if not self._said:
            self._said = True
            said = "the etags of this server are no MD5s: what no stored checksum proves is recorded as unverifiable"
            tell = log().info if shape in self._known else log().warning
            tell("etags_prove_nothing", key=key, message=said)

    async def _is_none(self, shape: Shape, check: Check, *, agreed: bool, waits_as: int) -> bool:
        """Whether the etag is no MD5."""
        etags = self.etags
        if shape in etags.opaque:
            return True
        if not agreed:
            return False
        await self._until_known(shape, waits_as)
        if shape in etags.proven:
            return is_made_up(check.expected)
        etags.differed(shape)
        self._tell()
        return True

    async def _until_known(self, shape: Shape, waits_as: int) -> None:
        self._waiting += waits_as
        try:
            while self.etags.is_open(shape) and self._waiting < self._under_way:
                self._news = self._news or asyncio.Event()
                await self._news.wait()
        finally:
            self._waiting -= waits_as

    def _tell(self) -> None:
        if self._news is not None:
            self._news.set()
            self._news = None


def _shape(check: Check) -> Shape | None:
    """The shape of the etag that is the check; None for one by a stored checksum."""
    return shape_of(check.expected) if check.algorithm in (Algorithm.MD5, Algorithm.MD5_PARTS) else None
