"""Mark the dead letters that are still to be written to the topic of dead letters.

Those that are there already were written by the version that gave them up, or refused: none of them gets the mark.
"""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0011"
down_revision = "0008"

LOSES = "which dead letters were published to their topic"

Time = sa.DateTime(timezone=True).with_variant(sa.String(32), "sqlite")


def upgrade() -> None:
    op.add_column("dead_letters", sa.Column("publish_at", Time))
    op.create_index("ix_dead_letters_publish_at", "dead_letters", ["publish_at"])
    op.create_index("ix_dead_letters_reason", "dead_letters", ["source_id", "reason"])


def downgrade() -> None:
    op.drop_index("ix_dead_letters_reason", "dead_letters")
    op.drop_index("ix_dead_letters_publish_at", "dead_letters")
    op.drop_column("dead_letters", "publish_at")
