"""Which keys globs and rules want. The rules are held to git itself, where it is there."""

from __future__ import annotations

import shutil
import subprocess
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from ingest.errors import SettingsError
from ingest.model import RemoteObject
from ingest.plan.page_memory import filters_of
from ingest.plan.selection import Selection

NOON = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = [
    "a.pdf",
    "a.tmp",
    "drafts/a.pdf",
    "drafts/keep.pdf",
    "drafts/2026/b.pdf",
    "loans/drafts/c.pdf",
    "loans/2026/a.tmp",
    "loans/2026/keep.tmp",
    "loans/a.pdf",
    "loans/2026/a{1,2}.pdf",
    "loans/[x].pdf",
    "#note",
    "!bang",
    "two  spaces .pdf",
    "new\nline/a.pdf",
    "ünï/ä.pdf",
]


def wanted(**how: tuple[str, ...]) -> list[str]:
    selection = Selection(**how)  # type: ignore[arg-type] # globs and rules only
    return [key for key in KEYS if not selection.excluded(key)]


@pytest.mark.parametrize(
    ("glob", "matches"),
    [
        ("*.tmp", ["a.tmp", "loans/2026/a.tmp", "loans/2026/keep.tmp"]),
        ("loans/*.tmp", ["loans/2026/a.tmp", "loans/2026/keep.tmp"]),
        ("loans/**.tmp", ["loans/2026/a.tmp", "loans/2026/keep.tmp"]),
        ("loans/**/a.tmp", ["loans/2026/a.tmp"]),
        ("**/a.pdf", ["drafts/a.pdf", "loans/a.pdf", "new\nline/a.pdf"]),
        ("/a.pdf", []),
        ("drafts/", []),
        ("drafts/*", ["drafts/a.pdf", "drafts/keep.pdf", "drafts/2026/b.pdf"]),
        ("*.{pdf,tmp}", []),
        ("loans/2026/a{1,2}.pdf", ["loans/2026/a{1,2}.pdf"]),
        ("loans/[[]x].pdf", ["loans/[x].pdf"]),
    ],
)
def test_what_a_glob_means(glob: str, matches: list[str]) -> None:
    assert wanted(include=(glob,)) == matches
    assert wanted(exclude=(glob,)) == [key for key in KEYS if key not in matches]


RULES = [
    ("*.tmp",),
    ("*.tmp", "!keep.tmp"),
    ("!keep.tmp", "*.tmp"),
    ("drafts/",),
    ("/drafts/",),
    ("/drafts",),
    ("drafts/a.pdf",),
    ("/*.pdf",),
    ("loans/**/a.tmp",),
    ("loans/**",),
    ("**/drafts/**",),
    ("*", "!*/", "!*.pdf"),
    ("*", "!/loans/", "!/loans/**"),
    ("loans/*", "!loans/2026/"),
    ("loans/*", "!loans/2026"),
    ("\\#note", "\\!bang"),
    ("two  spaces .pdf  ",),
    ("loans/[!b].pdf",),
    ("a?pdf", "*.{pdf,tmp}"),
    ("a{1,2}.pdf",),
    ("\\[x\\].pdf",),
    ("ünï/",),
    ("new*",),
]


@pytest.fixture(scope="module")
def work_tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if shutil.which("git") is None:
        pytest.skip("git is not there to say what a .gitignore means")
    tree = tmp_path_factory.mktemp("tree")
    subprocess.run(["git", "init", "-q", tree], check=True)
    for key in KEYS:
        (tree / key).parent.mkdir(parents=True, exist_ok=True)
        (tree / key).write_bytes(b"")
    return tree


@pytest.mark.parametrize("rules", RULES, ids=repr)
def test_rules_ignore_what_git_ignores(work_tree: Path, rules: tuple[str, ...]) -> None:
    (work_tree / ".gitignore").write_text("".join(f"{rule}\n" for rule in rules), encoding="utf-8")
    command = ["git", "-C", str(work_tree), "ls-files", "-z", "--others", "--exclude-per-directory=.gitignore"]
    listed = subprocess.run(command, check=True, capture_output=True).stdout.decode().split("\0")
    assert sorted(wanted(filter=rules)) == sorted(set(listed) - {"", ".gitignore"})


def test_all_three_have_to_agree() -> None:
    found = wanted(include=("loans/*", "drafts/*"), exclude=("*keep*",), filter=("*.tmp", "2026/", "!2026/b.pdf"))
    assert found == ["drafts/a.pdf", "loans/drafts/c.pdf", "loans/a.pdf", "loans/[x].pdf"]


@pytest.mark.parametrize("rule", ["", " ", "#note", "/", "!", "\\", "a\\", "[", "[z-a]"])
def test_a_rule_that_can_match_nothing_is_refused(rule: str) -> None:
    with pytest.raises(SettingsError, match=r"--filter .* matches no key at all"):
        Selection(filter=("*.tmp", rule))


@pytest.mark.parametrize("flag", ["include", "exclude"])
def test_an_empty_glob_is_refused(flag: str) -> None:
    with pytest.raises(SettingsError, match=f"--{flag} '' matches no key at all"):
        Selection(**{flag: ("*.pdf", "")})  # type: ignore[arg-type] # globs only


def test_a_window_begins_with_its_first_moment_and_ends_before_its_last() -> None:
    selection = Selection(since=NOON, until=NOON + timedelta(hours=1))
    moments = [NOON - timedelta(seconds=1), NOON, NOON + timedelta(minutes=59), NOON + timedelta(hours=1)]
    unwanted = [selection.unwanted(RemoteObject("a", 1, "e", moment)) for moment in moments]
    assert unwanted == ["outside the window", None, None, "outside the window"]


def test_other_rules_are_another_selection_and_none_change_nothing() -> None:
    """What was settled under the globs of earlier versions still is."""
    plain, ruled = Selection(include=("a",)), Selection(include=("a",), filter=("b",))
    assert filters_of(plain) == filters_of(Selection(include=("a",), filter=()))
    assert len({filters_of(plain), filters_of(ruled), filters_of(Selection(include=("a",), filter=("!b",)))}) == 3
