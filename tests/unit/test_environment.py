"""Set-up asks uv first and pip after it, each with every hash checked, and uv asks whom pip would ask.

The environment's Python and uv are scripts that note what they are asked for: what they would really do takes a network.
"""

from __future__ import annotations

import shlex
from collections.abc import Callable
from pathlib import Path

import pytest

from tools import environment
from tools.environment import arguments_for_uv, locked, main, settings_of_pip, variables_for_uv

HASH = "--hash=sha256:" + 64 * "0"
LOCK = f"six==1.16.0 {HASH}\nuv==0.13.9 \\\n    {HASH} \\\n    {HASH}\n    # via ingest\nuvloop==1 {HASH}\n"
UV = f"uv==0.13.9 \\\n    {HASH} \\\n    {HASH}"
GOOD_UV = "uv 0.13.9 (x86_64-unknown-linux-gnu)"

Run = Callable[..., tuple[int, list[str]]]


def script(path: Path, *lines: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(["#!/bin/sh", *lines, ""]))
    path.chmod(0o755)


def write_uv(path: Path, log: Path, version: str = GOOD_UV, offline: int = 0, online: int = 0) -> None:
    note = f'echo "uv $*" >> {shlex.quote(str(log))}'
    fail = "echo 'error: no such\n  cause: thing' >&2"
    script(
        path,
        f'if [ "$1" = --version ]; then echo "{version}"; exit {0 if version else 127}; fi',
        note,
        f'case "$*" in *--offline) exit {offline};; esac',
        f"[ {online} = 0 ] || {fail}",
        f"exit {online}",
    )


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs it in a directory whose environment is there already: the exit code, and what was asked for."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    log = tmp_path / "asked"

    def running(lock: str = LOCK, pip: int = 0, config: int = 0, installable: bool = False) -> tuple[int, list[str]]:
        (tmp_path / "a lock").write_text(lock)
        shelf = tmp_path / "shelf" / "uv"
        write_uv(shelf, log)
        script(
            tmp_path / "env" / "bin" / "python",
            'case "$*" in',
            f"  '-m pip config list') exit {config};;",
            "  '-m pip --version'|'-c ') exit 0;;",
            f"  *--no-deps*) {'/bin/ln -s ../../shelf/uv env/bin/uv' if installable else 'exit 1'};;",
            f'  *) echo "pip $*" >> {shlex.quote(str(log))}; exit {pip};;',
            "esac",
        )
        log.write_text("")
        code = main(Path("env"), Path("a lock"))
        return code, log.read_text().splitlines()

    return running


def on_path(tmp_path: Path, version: str = GOOD_UV, offline: int = 0, online: int = 0) -> None:
    write_uv(tmp_path / "path" / "uv", tmp_path / "asked", version, offline, online)


UV_ASKED = "uv pip install --quiet --python env/bin/python --require-hashes --requirements a lock"
PIP_ASKED = "pip -m pip install --quiet --disable-pip-version-check --require-hashes --requirement a lock"
PIP_AGAIN = PIP_ASKED.replace("--require", "--force-reinstall --require", 1)


def test_what_the_cache_holds_needs_no_network(run: Run, tmp_path: Path) -> None:
    on_path(tmp_path)
    assert run() == (0, [f"{UV_ASKED} --offline"])
    assert not (tmp_path / "env" / ".unfinished").exists()


def test_what_the_cache_lacks_is_asked_for(run: Run, tmp_path: Path) -> None:
    on_path(tmp_path, offline=1)
    assert run() == (0, [f"{UV_ASKED} --offline", UV_ASKED])


def test_where_uv_fails_pip_tries_and_one_line_says_so(
    run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    on_path(tmp_path, offline=1, online=2)
    assert run() == (0, [f"{UV_ASKED} --offline", UV_ASKED, PIP_AGAIN])
    said = capsys.readouterr().out.splitlines()
    assert said[1:] == ["uv could not do it (error: no such cause: thing): pip tries, a minute or two."]
    assert not (tmp_path / "env" / ".unfinished").exists()


def test_a_uv_that_is_killed_is_said_to_be(run: Run, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script(tmp_path / "path" / "uv", f'[ "$1" = --version ] || kill -9 $$; echo "{GOOD_UV}"')
    assert run() == (0, [PIP_AGAIN])
    assert "uv could not do it (exit code -9): pip tries" in capsys.readouterr().out


def test_where_both_fail_the_next_try_trusts_nothing_that_is_there(run: Run, tmp_path: Path) -> None:
    on_path(tmp_path, offline=1, online=1)
    assert run(pip=3)[0] == 3
    on_path(tmp_path)
    again = UV_ASKED.replace("--require", "--force-reinstall --require", 1)
    assert run() == (0, [f"{again} --offline"])
    assert run() == (0, [f"{UV_ASKED} --offline"])


@pytest.mark.parametrize("version", ["", "uv 0.7.22", "pyenv: uv: command not found"])
def test_a_uv_that_does_not_run_or_is_too_old_is_passed_over(run: Run, tmp_path: Path, version: str) -> None:
    on_path(tmp_path, version)
    assert run() == (0, [PIP_ASKED])
    assert run(installable=True) == (0, [f"{UV_ASKED} --offline"])


@pytest.mark.parametrize("version", ["uv 0.8.0", "uv 0.10.2 (abc 2026-01-01)", "uv 1.0.0"])
def test_a_uv_of_the_path_that_is_new_enough_is_taken(run: Run, tmp_path: Path, version: str) -> None:
    on_path(tmp_path, version)
    assert run() == (0, [f"{UV_ASKED} --offline"])


def test_an_environment_without_uv_takes_that_of_the_project(run: Run, tmp_path: Path) -> None:
    write_uv(tmp_path / ".venv" / "bin" / "uv", tmp_path / "asked")
    assert run(lock=f"six==1.16.0 {HASH}\n") == (0, [f"{UV_ASKED} --offline"])


def test_without_any_uv_pip_installs(run: Run, capsys: pytest.CaptureFixture[str]) -> None:
    assert run() == (0, [PIP_ASKED])
    assert run(lock=f"six==1.16.0 {HASH}\n", pip=1) == (1, [PIP_ASKED])
    assert "There is no uv, and none can be installed: pip takes a minute or two." in capsys.readouterr().out


def test_where_pip_cannot_read_its_settings_pip_says_so(run: Run, tmp_path: Path) -> None:
    on_path(tmp_path)
    assert run(config=1, pip=1) == (1, [PIP_ASKED])


@pytest.mark.parametrize(
    ("listed", "settings"),
    [
        ("", {}),
        ("global.index-url='https://a/simple'", {"index-url": "https://a/simple"}),
        ("global.cert='/a'\ninstall.cert='/b'", {"cert": "/b"}),
        (":env:.cert='/c'\nglobal.cert='/a'\ninstall.cert='/b'", {"cert": "/c"}),
        (":env:.extra_index_url='https://a'", {"extra-index-url": "https://a"}),
        (":env:.cert=''\nglobal.cert='/a'", {"cert": "/a"}),
        ("global.find-links='\\n/a\\n/b'", {"find-links": "\n/a\n/b"}),
        ("download.cert='/a'\nfreeze.all='1'\nnonsense", {}),
    ],
)
def test_settings_of_pip(listed: str, settings: dict[str, str]) -> None:
    assert settings_of_pip(listed) == settings


@pytest.mark.parametrize(
    ("settings", "variables"),
    [
        ({"index-url": "https://u:p@a/simple"}, {"UV_DEFAULT_INDEX": "https://u:p@a/simple"}),
        ({"extra-index-url": "\nhttps://a\nhttps://b"}, {"UV_INDEX": "https://a https://b"}),
        ({"find-links": "\n/a\n/b"}, {"UV_FIND_LINKS": "/a,/b"}),
        ({"trusted-host": "a b"}, {"UV_INSECURE_HOST": "a b"}),
        ({"timeout": "60"}, {"UV_HTTP_TIMEOUT": "60"}),
        ({"default-timeout": "60"}, {"UV_HTTP_TIMEOUT": "60"}),
        ({"client-cert": "/a"}, {"SSL_CLIENT_CERT": "/a"}),
        ({"cert": "/a.pem"}, {"SSL_CERT_FILE": "/a.pem"}),
        ({"cert": "/"}, {"SSL_CERT_DIR": "/"}),
        ({"proxy": "http://p:1"}, dict.fromkeys(environment._PROXIES, "http://p:1")),
        ({"constraint": "/a", "progress-bar": "off"}, {}),
    ],
)
def test_uv_is_told_what_pip_was(settings: dict[str, str], variables: dict[str, str]) -> None:
    always = {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_PYTHON_DOWNLOADS": "never", "UV_LINK_MODE": "copy"}
    assert variables_for_uv(settings, {}) == always | variables
    assert arguments_for_uv(settings) == []


def test_what_uv_was_told_itself_stays_but_for_hashes_unchecked() -> None:
    settings = {"index-url": "https://pip", "cert": "/pip.pem"}
    told = {"UV_DEFAULT_INDEX": "https://uv", "UV_LINK_MODE": "hardlink", "UV_NO_VERIFY_HASHES": "1"}
    given = variables_for_uv(settings, told | {"SSL_CERT_FILE": "/others.pem", "HOME": "/h"})
    assert {name: given[name] for name in ("UV_DEFAULT_INDEX", "UV_LINK_MODE", "SSL_CERT_FILE", "HOME")} == {
        "UV_DEFAULT_INDEX": "https://uv",
        "UV_LINK_MODE": "hardlink",
        "SSL_CERT_FILE": "/pip.pem",
        "HOME": "/h",
    }
    assert "UV_NO_VERIFY_HASHES" not in given


@pytest.mark.parametrize(
    ("settings", "arguments"),
    [
        ({"no-index": "1"}, ["--no-index"]),
        ({"no-index": "True"}, ["--no-index"]),
        ({"no-index": "false"}, []),
        ({"only-binary": ":all:"}, ["--only-binary=:all:"]),
        ({"no-binary": "a,b"}, ["--no-binary=a", "--no-binary=b"]),
    ],
)
def test_what_uv_has_no_variable_for(settings: dict[str, str], arguments: list[str]) -> None:
    assert arguments_for_uv(settings) == arguments


@pytest.mark.parametrize(
    ("lock", "requirement"),
    [
        (LOCK, UV),
        (f"{UV}\n", UV),
        (UV, UV),
        (f"uv==1 {HASH}\nsix==1 {HASH}\n", f"uv==1 {HASH}"),
        (f"uvloop==1 {HASH}\n", None),
        ("# uv==1\n", None),
        ("", None),
    ],
)
def test_one_requirement_of_a_lock(lock: str, requirement: str | None) -> None:
    assert locked("uv", lock) == requirement


def test_the_lock_names_a_uv_that_is_new_enough() -> None:
    text = (Path(environment.__file__).parents[1] / "requirements.lock").read_text(encoding="utf-8")
    requirement = locked("uv", text)
    assert requirement is not None
    major, minor = requirement.removeprefix("uv==").split(".")[:2]
    assert (int(major), int(minor)) >= environment.OLDEST_UV
    assert requirement.count("--hash=sha256:") > 1
