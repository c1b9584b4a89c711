"""Names are the UTF-8 bytes of their keys whatever the locale is; so are arguments, settings, output and logs."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.faults.rig import Rig, rigged, sqlite_template, sqlite_url, swift, variables_of
from tests.fixtures.process import ANEW, Done, run_ingest

__all__ = ["sqlite_template", "sqlite_url", "swift"]

KEYS = ("\u00e4/\u20ac.pdf", "\u65e5\u672c/\U0001f4c4", "plain")
LOCALES = (
    "de_DE.ISO-8859-1",
    "de_DE",
    "de_DE.ISO-8859-15@euro",
    "ja_JP.eucjp",
    "zh_CN.gb18030",
    "ru_RU.koi8r",
    "C",
    "POSIX",
)


@pytest.fixture(params=LOCALES)
def locale(request: pytest.FixtureRequest) -> dict[str, str]:
    """Variables; without the ways by which Python turns C and POSIX into UTF-8."""
    name: str = request.param
    asked = subprocess.run(["locale", "charmap"], env={**os.environ, "LC_ALL": name}, capture_output=True, check=False)
    if asked.returncode or asked.stderr:
        pytest.skip(f"there is no locale {name} here (Debian: locales-all)")
    return {"LC_ALL": name, "PYTHONUTF8": "0", "PYTHONCOERCECLOCALE": "0"}


async def spoken(rig: Rig, locale: Mapping[str, str], *arguments: str, **variables: str) -> Done:
    done = await run_ingest(*arguments, variables={**variables_of(rig.settings), **locale, **variables}, cwd=rig.home)
    assert done.code == 0, done.stderr
    return done


async def test_every_command(tmp_path: Path, sqlite_url: str, swift: None, locale: dict[str, str]) -> None:
    async with rigged(tmp_path, sqlite_url, {key: key.encode() for key in KEYS}) as rig:
        rig.settings = rig.settings.replace(data_dir=tmp_path / "data-\u00e4\u20ac")
        root = os.fsencode(rig.settings.data_dir / rig.settings.bucket)
        await spoken(rig, locale, "sync", "-v")
        for key in KEYS:
            assert Path(os.fsdecode(root + b"/" + key.encode())).read_bytes() == key.encode()
        listed = await spoken(rig, locale, "ls")
        assert all(key in listed.stdout for key in KEYS)
        await spoken(rig, locale, "verify")
        await spoken(rig, locale, "hold", "add", KEYS[0], "--reason", "f\u00fcr \u20ac")
        assert "f\u00fcr \u20ac" in (await spoken(rig, locale, "hold", "list")).stdout
        await spoken(rig, locale, "hold", "remove", KEYS[0])
        assert KEYS[0] in (await spoken(rig, locale, "history", KEYS[0])).stdout
        await spoken(rig, locale, "cleanup", "--older-than", "0m")
        restored = tmp_path / "to-\u20ac"
        await spoken(rig, locale, "restore", KEYS[0], "--to", str(restored))
        assert (restored / rig.settings.bucket / KEYS[0]).read_bytes() == KEYS[0].encode()
        await spoken(rig, locale, "restore", "--prefix", "\u65e5")
        assert (rig.settings.data_dir / rig.settings.bucket / KEYS[1]).is_file()


async def test_a_settings_file(tmp_path: Path, sqlite_url: str, swift: None) -> None:
    async with rigged(tmp_path, sqlite_url, {KEYS[0]: b"x"}) as rig:
        values = variables_of(rig.settings)
        values["INGEST_DATA_DIR"] = str(tmp_path / "\u00e4\u20ac")
        file = tmp_path / "settings-\u20ac"
        file.write_text("".join(f"{name}='{value}'\n" for name, value in values.items()), encoding="utf-8")
        file.chmod(0o600)
        done = await run_ingest(
            "sync", "--env-file", str(file), variables={"LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0"}, cwd=rig.home
        )
        assert done.code == 0, done.stderr
        assert (tmp_path / "\u00e4\u20ac" / rig.settings.bucket / KEYS[0]).is_file()


@pytest.mark.parametrize("chosen", ["ascii", "latin-1", "utf-16"])
async def test_an_output_that_takes_not_every_letter(tmp_path: Path, sqlite_url: str, swift: None, chosen: str) -> None:
    """Somebody chose it: what it does not hold is escaped, and nothing fails."""
    async with rigged(tmp_path, sqlite_url, {key: b"x" for key in KEYS}) as rig:
        for command in (("sync", "-v"), ("ls",), ("history", KEYS[0])):
            await spoken(rig, {"PYTHONIOENCODING": chosen}, *command)


async def test_an_argument_that_is_no_utf8(tmp_path: Path, sqlite_url: str, swift: None) -> None:
    """As a Latin-1 terminal sends it: a usage error, and no defect."""
    async with rigged(tmp_path, sqlite_url, {key: b"x" for key in KEYS}) as rig:
        await spoken(rig, {}, "sync")
        for arguments in (
            ("restore", "\udce4"),
            ("ls", "\udce4"),
            ("sync", "--prefix", "\udce4"),
            ("history", "\udce4"),
        ):
            done = await run_ingest(*arguments, variables=variables_of(rig.settings), cwd=rig.home, program=ANEW)
            assert done.code in (1, 2), done.stderr
            assert "defect" not in done.stderr
            assert "Traceback" not in done.stderr


def test_the_library_places_names_in_utf8(tmp_path: Path) -> None:
    """From Python nobody starts anew: the store's own names are UTF-8 all the same."""
    program = """
import sys
from pathlib import Path
from ingest.store.files import FileStore
from ingest.store.inspection import Expected, Inspector
from ingest.store.walk import walk
from ingest.plan.checks import hashed
from ingest.plan.checks import Check
assert sys.getfilesystemencoding() == "iso8859-1", sys.getfilesystemencoding()
store = FileStore(Path("data"), "b")
staged = store.stage("\\u20ac/\\u00e4", [b"x"], hashed([b"x"], Check(None)))
copy = store.publish([staged], {})["\\u20ac/\\u00e4"]
found, = walk(Path("data"), "b")
assert found.path == "\\u20ac/\\u00e4", ascii(found)
with store.open_copy(copy.local_path):
    pass
print(ascii(Inspector(Path("data"), "b").inspect([Expected(copy.local_path, 1, copy.digest)])[0].verdict.value))
store.remove("b/\\u20ac/\\u00e4")
"""
    asked = {**os.environ, "LC_ALL": "de_DE.ISO-8859-1", "PYTHONUTF8": "0", "PYTHONPATH": str(Path.cwd())}
    if subprocess.run(["locale", "charmap"], env=asked, capture_output=True, check=True).stderr:
        pytest.skip("there is no locale de_DE.ISO-8859-1 here (Debian: locales-all)")
    done = subprocess.run([sys.executable, "-c", program], env=asked, cwd=tmp_path, capture_output=True, check=False)
    assert (done.returncode, done.stdout) == (0, b"'intact'\n"), done.stderr
    assert list((tmp_path / "data" / "b").iterdir()) == []
