"""Keys of the last characters that there are: no bound stands before them, whichever way a server lists."""

from __future__ import annotations

from pathlib import Path

import pytest

from ingest.engine.options import RestoreOptions
from ingest.jobs.restore import restore
from ingest.observe.progress import Silence
from ingest.plan.selection import Selection
from ingest.tasks.stop import Stop
from tests.faults.rig import rigged

LAST = "\U0010ffff"
OBJECTS = {
    key: key.encode()
    for key in ("d/a", f"d/{LAST}", f"d/{LAST * 2}", f"d/{LAST * 2}x", f"d/{LAST * 5}/y", "e", LAST * 9)
}


@pytest.mark.parametrize("by_directory", [False, True], ids=["byte order", "by directory"])
@pytest.mark.parametrize("prefixes", [(), ("d/",)], ids=["all", "a prefix"])
async def test_they_are_known_again_gone_and_returned(
    tmp_path: Path, each_url: str, swift: None, by_directory: bool, prefixes: tuple[str, ...]
) -> None:
    selection = Selection(prefixes=prefixes)
    whole = {key: body for key, body in OBJECTS.items() if key.startswith("d/") or not prefixes}
    async with rigged(tmp_path, each_url, OBJECTS, page=2, name="SeaweedFS" if by_directory else "MinIO") as rig:
        rig.server.by_directory = by_directory
        assert (await rig.run(0, selection=selection)).counts.downloaded == len(whole)
        for memory in (True, False):
            report = await rig.run(0, selection=selection, page_memory=memory)
            assert (report.counts.unchanged, report.counts.downloaded) == (len(whole), 0)
        del rig.server.objects[f"d/{LAST * 2}x"], rig.server.objects[f"d/{LAST * 5}/y"]
        assert (await rig.run(0, selection=selection)).counts.gone == 2
        rig.server.fill(OBJECTS)
        report = await rig.run(0, selection=selection)
        assert (report.counts.unchanged, report.counts.gone) == (len(whole), 0)
        left = await restore(rig.settings, RestoreOptions(prefix="d/"), progress=Silence(), stop=Stop())
        assert left.exit_code == 0
