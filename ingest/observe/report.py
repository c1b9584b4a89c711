"""A run's report as the ``--json`` object and as the line for people."""

from __future__ import annotations

from dataclasses import asdict
from typing import Any

from ingest.errors import IngestError
from ingest.model import LISTS_THE_BUCKET, RunReport, RunStatus
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
