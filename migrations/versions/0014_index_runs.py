"""Find the last runs without reading them all, and let old ones go while the audit trail stays.

An event names the run that it is of, whether or not that run is still on record. SQLite has no statement for a table
that is to have one constraint less, and a new table would copy the whole trail: its definition is edited, as SQLite's
own documentation says (lang_altertable, "Making Other Kinds Of Table Schema Changes"); no row is touched.
"""

from __future__ import annotations

import re

import sqlalchemy as sa
from alembic import op

revision = "0014"
down_revision = "0013"

LOSES = "the quick way to the last runs, and the room that old ones had"

_CONSTRAINT = "CONSTRAINT fk_events_run_id FOREIGN KEY(run_id) REFERENCES runs (id)"
_NEXT = "CONSTRAINT fk_events_source_id"


def upgrade() -> None:
    op.create_index("ix_runs_source_id", "runs", ["source_id", "id"])
    op.create_index("ix_runs_command", "runs", ["source_id", "command", "id"])
    running = sa.text("status = 'running'")
    op.create_index("ix_runs_running", "runs", ["id"], sqlite_where=running, postgresql_where=running)
    if op.get_bind().dialect.name == "sqlite":
        _rewrite(rf"{re.escape(_CONSTRAINT)},\s*", "")
    else:
        op.drop_constraint("fk_events_run_id", "events", type_="foreignkey")


def downgrade() -> None:
    if op.get_bind().dialect.name == "sqlite":
        _rewrite(_NEXT, f"{_CONSTRAINT}, {_NEXT}")
    else:  # events of runs that are no longer on record stay as they are
        op.execute(f"ALTER TABLE events ADD {_CONSTRAINT} NOT VALID")
    for name in ("ix_runs_running", "ix_runs_command", "ix_runs_source_id"):
        op.drop_index(name, "runs")


def _rewrite(pattern: str, by: str) -> None:
    """Gives the table of events another definition; whoever has read the old one reads the new one."""
    connection = op.get_bind()
    where = "WHERE type = 'table' AND name = 'events'"
    definition = connection.exec_driver_sql(f"SELECT sql FROM sqlite_master {where}").scalar_one()  # noqa: S608 - ours
    written, found = re.subn(pattern, by, definition)
    if found != 1:
        raise ValueError(f"the table of events is not as it was made: {definition}")
    version = connection.exec_driver_sql("PRAGMA schema_version").scalar_one()
    connection.exec_driver_sql("PRAGMA writable_schema = ON")
    connection.exec_driver_sql(f"UPDATE sqlite_master SET sql = ? {where}", (written,))  # noqa: S608 - ours
    connection.exec_driver_sql(f"PRAGMA schema_version = {version + 1}")
    connection.exec_driver_sql("PRAGMA writable_schema = OFF")
