"""A run's report: as the ``--json`` object, as the line for people, and told to whoever wants to know of the end."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict
from typing import Any

from ingest.errors import IngestError
from ingest.model import LISTS_THE_BUCKET, RunReport, RunStatus
from ingest.observe.logs import conclude, log
from ingest.system.units import format_size


def frame(
    command: str,
    *,
    run_id: int | None = None,
    status: RunStatus = RunStatus.OK,
    exit_code: int = 0,
    error: IngestError | None = None,
) -> dict[str, Any]:
    """What the object of ``--json`` says for every command, before its own fields, which are none of these.

    `run_id` is null where no run was recorded, `error` where none ended the command.
    """
    said = None if error is None else {"code": error.code, "message": error.message, "hint": error.hint}
    return {"command": command, "run_id": run_id, "status": status.value, "exit_code": int(exit_code), "error": said}


def as_json(report: RunReport) -> dict[str, Any]:
    """The object of ``--json``. Fields may be added, never renamed."""
    document = frame(
        report.command,
        run_id=report.run_id,
        status=report.status,
        exit_code=report.exit_code,
        error=report.error,
    )
    return document | asdict(report.counts) | {"seconds": report.seconds} | report.notes


def as_line(report: RunReport) -> str:
    """``sync ok: 12 listed, 2 new, …``: only counts (and notes) that are not zero, besides the first."""
    counts = report.tallies
    size = counts.pop("bytes")
    shown = [f"{counts.pop('listed')} listed"] if report.command in LISTS_THE_BUCKET else []
    shown += [f"{count} {name.replace('_', ' ')}" for name, count in counts.items() if count]
    if size:
        shown.append(format_size(size))
    said = ", ".join(shown) or ("nothing was done" if report.error else "nothing to do")
    dry = " (dry run)" if report.notes.get("dry_run") else ""
    below = f" below {report.notes['written_below']}" if "written_below" in report.notes else ""
    return f"{report.command} {report.status.value}{dry}: {said}{below} in {report.seconds:.1f} s"


Listener = Callable[[RunReport], None]
"""Is told how a run ended, once, when all of it is recorded."""


def finish(report: RunReport, listeners: Sequence[Listener]) -> None:
    """The end of a run: each of `listeners` is told, in their order, also when one before it failed.

    Not in the run's event loop: whoever writes to a pipe that is full must not keep the signals waiting.

    Raises:
        IngestError: the first one of a listener, when all are told. Any other error is a line of the log, and the
            report stays what it is.
    """
    failure: IngestError | None = None
    for listener in listeners:
        try:
            listener(report)
        except IngestError as error:
            failure = failure or error
        except Exception as defect:  # noqa: BLE001 - whoever only wants to know is no reason to lose the others
            log().error("listener_failed", message=f"{type(defect).__name__}: {defect}")
    if failure is not None:
        raise failure


def log_end(report: RunReport, *, quiet: bool) -> None:
    """The last lines of a run's log: how many lines were left out of it, and all counts; where it is `quiet` and
    something is missing, the line for people as an error."""
    conclude(report.run_id)
    if quiet and report.error is None and report.exit_code:
        log().error("run_partial", message=as_line(report))
    told = {name: value for name, value in as_json(report).items() if name not in ("run_id", "error")}
    log().info("run_finished", **told)
