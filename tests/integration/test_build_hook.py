"""The library of MD5 lanes is built where there is a compiler, and its absence breaks nothing."""

from __future__ import annotations

import ctypes
import importlib.util
import shutil
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).resolve().parents[2]
needs_compiler = pytest.mark.skipif(shutil.which("cc") is None, reason="this machine has no C compiler")


@pytest.fixture
def hook(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.delenv("INGEST_WITHOUT_LIBRARY", raising=False)
    spec = importlib.util.spec_from_file_location("hatch_build", ROOT / "hatch_build.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def checkout(tmp_path: Path, hook: ModuleType) -> Path:
    source = tmp_path / hook.SOURCE
    source.parent.mkdir(parents=True)
    shutil.copy(ROOT / hook.SOURCE, source)
    return tmp_path


@needs_compiler
def test_it_is_built_beside_its_source(hook: ModuleType, checkout: Path) -> None:
    assert hook.build(checkout)
    assert ctypes.CDLL(str(checkout / hook.LIBRARY)).ingest_md5_advance
    assert sorted(path.name for path in (checkout / hook.SOURCE).parent.iterdir()) == ["_md5_lanes.so", "md5_lanes.c"]


@needs_compiler
def test_a_compiler_that_cannot_build_for_several_processors_builds_for_one(
    hook: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    picky = checkout / "picky-cc"
    picky.write_text('#!/bin/sh\ncase "$*" in *INGEST_CLONES*) exit 1;; esac\nexec cc "$@"\n')
    picky.chmod(0o755)
    monkeypatch.setenv("CC", str(picky))
    assert hook.build(checkout)


@pytest.mark.parametrize(
    ("name", "value"), [("CC", "/nonexistent/cc"), ("CC", "false"), ("INGEST_WITHOUT_LIBRARY", "1")]
)
def test_without_a_compiler_nothing_is_left(
    hook: ModuleType, checkout: Path, monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    (checkout / hook.LIBRARY).write_bytes(b"of an earlier build")
    monkeypatch.setenv(name, value)
    assert not hook.build(checkout)
    assert [path.name for path in (checkout / hook.SOURCE).parent.iterdir()] == ["md5_lanes.c"]
