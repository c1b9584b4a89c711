"""A catalog that has forgotten what it had: noticed when a run starts, or by the run whose transactions are lost.

From then on the runs know that files may be newer than their rows, until a whole sync has ended: that reads every page
anew, since what was vouched for may be lost, and takes up the copies that are right.
"""

from __future__ import annotations

import asyncio
from pathlib import Path

from ingest.catalog.catalog import Catalog
from ingest.catalog.sql.continuity import Continuity
from ingest.observe.logs import log
from ingest.plan.behind import Noted, Standing, is_behind
from ingest.store import last_run


async def found_behind(catalog: Catalog, data_dir: Path, run: Continuity, noted: Noted, standing: Standing) -> bool:
    """Whether the catalog, as it stood when `run` began, was behind what the data directory has `noted`."""
    behind = is_behind(noted, run.run_id, standing)
    if behind:
        said = "the catalog is older than the copies, as a backup is: the next whole sync adopts what is newer"
        log().warning("catalog_behind", message=said)
    if behind and not noted.behind:
        await turned_back(catalog, data_dir)
    elif not behind:
        await asyncio.to_thread(last_run.note_mark, data_dir, run.mark)
    return behind


async def turned_back(catalog: Catalog, data_dir: Path) -> None:
    """Forgets what pages vouch for, then notes that the catalog is behind: a kill in between leaves it to be noticed.

    Raises:
        DatabaseError: it is not noted; the next run notices by itself.
    """
    await catalog.forget_pages()
    await asyncio.to_thread(last_run.note_behind, data_dir)
