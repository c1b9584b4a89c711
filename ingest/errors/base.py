"""The root of the tree, and what a run itself may end with."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar, Self

from ingest.errors.exit_codes import ExitCode as ExitCode  # noqa: PLC0414 - errors and their codes are imported together
from ingest.system.redaction import redact

if TYPE_CHECKING:
    from ingest.model import RunReport


class IngestError(Exception):
    """Base of every error that a person may see; by itself a defect of the tool."""

    code: ClassVar[str] = "error"
    """Stable name for logs and scripts."""
    exit_code: ClassVar[ExitCode] = ExitCode.FAILED
    retryable: bool = False
    hint: str = "Run again with -v and report what it prints."

    def __init__(self, message: str, *, hint: str | None = None) -> None:
        self.message = redact(message)
        super().__init__(self.message)
        if hint is not None:
            self.hint = hint


class SettingsError(IngestError):
    """A setting, flag or argument is wrong. The message names it and what it wants."""

    code = "settings"
    exit_code = ExitCode.USAGE
    hint = "See `.env.example` for every setting, and `ingest COMMAND --help` for every flag."


class LockedError(IngestError):
    """Another run of the same kind is at work on this source."""

    code = "locked"
    exit_code = ExitCode.LOCKED
    hint = "Wait for it to end, or look at `ingest runs`. The lock dies with its holder; nothing to remove by hand."


class PartialRun(IngestError):
    """Some objects failed in a run; the others are done, and recorded. Only `RunReport.raise_for_status` raises it."""

    code = "partial"
    exit_code = ExitCode.PARTIAL
    hint = "The run's own log, and `ingest runs`, name each; the next run tries them again."

    def __init__(self, report: RunReport) -> None:
        super().__init__(f"{report.command}: {report.counts.failed} objects failed")
        self.report = report

    def __reduce__(self) -> tuple[type[Self], tuple[RunReport]]:
        return type(self), (self.report,)


class OutOfMemory(IngestError):
    """The system, or the container's limit, gives this process no more memory, or no more threads."""

    code = "out_of_memory"
    hint = "Free memory or raise the limit, then run again: what was finished is recorded. Fewer --transfers need less."


class InterruptedRun(IngestError):
    """SIGINT: what was finished is recorded."""

    code = "interrupted"
    exit_code = ExitCode.INTERRUPTED
    hint = "Run the command again: it goes on where this run stopped."


class ReaderGone(InterruptedRun):
    """What read the output has ended (as `head` does), and the command ends with it, without a message."""

    code = "reader_gone"
    exit_code = ExitCode.READER_GONE
    hint = "Nothing has to be done."


class TerminatedRun(InterruptedRun):
    """SIGTERM: what was finished is recorded."""

    code = "terminated"
    exit_code = ExitCode.TERMINATED
