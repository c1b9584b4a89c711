"""The exit codes, and what each means: one table for scripts, `--help` and the documents."""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """The documented exit codes. `ingest --help` prints this table from the descriptions below."""

    OK = 0
    FAILED = 1
    USAGE = 2
    PARTIAL = 3
    SOURCE = 4
    DISK = 5
    DATABASE = 6
    DAMAGED = 7
    LOCKED = 11
    INTERRUPTED = 130
    READER_GONE = 141
    TERMINATED = 143

    @property
    def meaning(self) -> str:
        return _MEANINGS[self]


_MEANINGS: dict[ExitCode, str] = {
    ExitCode.OK: "everything was done",
    ExitCode.FAILED: "failed (a connection check, a name that is not on record, or a defect)",
    ExitCode.USAGE: "wrong usage or settings",
    ExitCode.PARTIAL: "partial: some objects failed, the rest is done and recorded",
    ExitCode.SOURCE: "source: network, TLS, credentials, or a listing that cannot be trusted",
    ExitCode.DISK: "local disk",
    ExitCode.DATABASE: "database",
    ExitCode.DAMAGED: "damage found by verify",
    ExitCode.LOCKED: "another run holds the lock",
    ExitCode.INTERRUPTED: "interrupted (what was finished is recorded)",
    ExitCode.READER_GONE: "what read the output has ended, as `head` does",
    ExitCode.TERMINATED: "terminated (what was finished is recorded)",
}
