"""Servers for the tests of programs that use a bucket: small, in memory, and wrong on order. Nothing else is needed.

>>> from ingest.testing import Fault, MemoryS3, faults, running
>>> with running(MemoryS3()) as server:
...     server.put("a", b"x")
...     server.faults.append(Fault("get", faults.reset, times=1))

`MemoryS3` is the bucket. `running` serves it from a thread, `serving` from the loop of an asynchronous test. A `Fault`
does one of `ingest.testing.faults` in place of the right answer to some requests. `raw_server` answers exactly the
bytes it is told to.
"""

from __future__ import annotations

from ingest.testing import faults
from ingest.testing.address import Address
from ingest.testing.memory_s3 import Answer, Asked, Deed, Fault, MemoryS3, Stored, refusal, running, serving
from ingest.testing.raw_server import RawServer, Visit, raw_server

__all__ = [
    "Address",
    "Answer",
    "Asked",
    "Deed",
    "Fault",
    "MemoryS3",
    "RawServer",
    "Stored",
    "Visit",
    "faults",
    "raw_server",
    "refusal",
    "running",
    "serving",
]
