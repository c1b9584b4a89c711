"""What the bytes of a large object are, once all of them are on the disk: right, wrong, or beyond proof.

What was hashed on the way decides nearly always. What is left is read back from the file, for a checksum that is stored
with the object, or for the sizes that its parts may have.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from ingest.engine.transfer.doubts import Doubts
from ingest.engine.transfer.part_digests import PartDigests
from ingest.model import Verified
from ingest.plan.checks import Algorithm, Check, Hashed, Hasher, is_multipart, possible_part_sizes
from ingest.plan.pieces import cut
from ingest.source.checksums import stored_check
from ingest.tasks.threads import in_thread

if TYPE_CHECKING:
    from ingest.source.object_head import ObjectHead
    from ingest.store.partials import Partial

_REMEMBERED = 8


@dataclass
class Proof:
    """For all large objects of a run: who uploads in parts, cuts them alike."""

    doubts: Doubts
    threads: ThreadPoolExecutor
    _part_sizes: deque[int] = field(default_factory=lambda: deque(maxlen=_REMEMBERED))

    async def conclude(
        self, found: Hashed, check: Check, head: ObjectHead, partial: Partial, earlier: Collection[str]
    ) -> Hashed:
        """The verdict on the whole of `partial`, of which `found` is what was hashed on the way by `check`.

        Raises:
            DamagedTransfer: it is not what the server says it holds. DiskError: it cannot be read back.
        """
        if found.verdict is Verified.VERIFIED:
            self.doubts.matched(check, head.size)
            return found
        if found.verdict is Verified.UNVERIFIABLE:
            proven = not head.etag_is_opaque and is_multipart(head.etag) and await self._by_parts(head, partial)
            return found._replace(verdict=Verified.VERIFIED) if proven else found
        stored = stored_check(head.checksums, head.checksum_type, head.etag, head.size)
        if stored is None:
            return await self.doubts.verdict(found, check, earlier, partial.identity.key, is_large=True)
        hasher = Hasher(stored)
        await in_thread(self.threads, partial.read, 0, head.size, hasher.update)
        return self.doubts.by_stored(found._replace(verdict=hasher.verdict()), check, partial.identity.key)

    async def _by_parts(self, head: ObjectHead, partial: Partial) -> bool:
        """Whether the etag is that of parts of some size."""
        etag = head.etag
        for size in possible_part_sizes(head.size, int(etag.partition("-")[2]), self._part_sizes):
            digests = PartDigests(partial, cut(head.size, size), self.threads)
            digests.all_written()
            await digests.run()
            if digests.etag() == etag:
                if size not in self._part_sizes:
                    self._part_sizes.appendleft(size)
                self.doubts.matched(Check(Algorithm.MD5_PARTS, etag, size), head.size)
                return True
        return False
