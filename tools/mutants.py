"""Whether the tests of `ingest/plan` miss a change in it: those unit and property tests that import the changed module.

    python -m tools.mutants [MODULE ...]

The tests are collected once. Each mutant is a fork, in which the changed statement takes the place of the one that was
imported. A mutant that no test notices must be in `tools/accepted_mutants.txt`, with a reason;
one that is there, and is noticed or gone, must leave.
"""

from __future__ import annotations
import __future__

import ast
import gc
import os
import re
import resource
import signal
import sys
import time
import types
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from tools.mutations import Mutant, mutants_of

ROOT = Path(__file__).resolve().parents[1]
PLAN = ROOT / "ingest" / "plan"
ACCEPTED = ROOT / "tools" / "accepted_mutants.txt"
_SECONDS, _BYTES = 300, 6 << 30  # what a mutant that never ends may take


class Trial:
    """A plugin of pytest: instead of running the tests once, tries each mutant with those that concern it."""

    def __init__(self, modules: list[str]) -> None:
        self._modules = modules
        self._failed = False
        self._cpu_seconds = 0
        self.survivors: list[str] = []
        self.total = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_collection(self) -> None:
        import hypothesis  # not before pytest, which rewrites it

        # A failure is enough: nobody reads the smallest example of it.
        phases = (hypothesis.Phase.explicit, hypothesis.Phase.generate)
        hypothesis.settings.register_profile(
            "mutants", deadline=None, derandomize=True, database=None, phases=phases, max_examples=50
        )
        hypothesis.settings.load_profile("mutants")

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        self._failed |= report.failed

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtestloop(self, session: pytest.Session) -> bool:
        session.config.option.tbstyle = "native"  # nobody reads them, and the long ones take their time
        gc.collect()
        gc.freeze()
        for module in self._modules:
            mutants = mutants_of(f"ingest.plan.{module}", (PLAN / f"{module}.py").read_text(encoding="utf-8"))
            items = [item for item in session.items if _names(item.path, module)] or session.items
            began = time.process_time()
            if not self._passes(items):
                sys.exit(f"a test of {module} fails without any mutant")
            self._cpu_seconds = 2 + int(4 * (time.process_time() - began))
            unnoticed = [mutant.name for mutant in mutants if not self._is_noticed(mutant, items)]
            print("\n".join(unnoticed))
            print(f"{module}: {len(mutants) - len(unnoticed)} of {len(mutants)}", flush=True)
            self.survivors += unnoticed
            self.total += len(mutants)
        return True

    def _passes(self, items: Sequence[pytest.Item]) -> bool:
        self._failed = False
        for item, following in zip(items, [*items[1:], None], strict=False):
            item.ihook.pytest_runtest_protocol(item=item, nextitem=following)
            if self._failed:
                return False
        return True

    def _is_noticed(self, mutant: Mutant, items: list[pytest.Item]) -> bool:
        child = os.fork()
        if child:
            return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) != 0
        code = 1  # a statement that cannot be made is noticed by whoever imports it
        try:
            resource.setrlimit(resource.RLIMIT_CPU, (self._cpu_seconds, self._cpu_seconds))
            resource.setrlimit(resource.RLIMIT_AS, (_BYTES, _BYTES))
            signal.signal(signal.SIGALRM, signal.SIG_DFL)
            signal.alarm(_SECONDS)
            graft(mutant, items)
            code = 0 if self._passes(items) else 1
        finally:
            os._exit(code)


def _names(path: Path, module: str) -> bool:
    """Whether a file of tests imports a module of the plan."""
    return (
        re.search(rf"ingest\.plan(\.{module}\b| import .*\b{module}\b)", path.read_text(encoding="utf-8")) is not None
    )


def graft(mutant: Mutant, items: Sequence[pytest.Item]) -> None:
    """Puts the changed statement into the module as it is loaded: whoever has imported from it sees the change."""
    module = sys.modules[mutant.module]
    scope = dict(vars(module))
    filename = str(module.__file__)
    statements = [mutant.statement, *_that_follow(mutant.statement, Path(filename).read_text(encoding="utf-8"))]
    flags = __future__.annotations.compiler_flag
    exec(compile(ast.Module(statements, []), filename, "exec", flags, dont_inherit=True), scope)  # noqa: S102 - a mutant
    made = {name: new for name, new in scope.items() if name != "__builtins__" and vars(module).get(name) is not new}
    for name, new in made.items():
        old = vars(module).get(name)
        if isinstance(old, type) or callable(old):
            _take(old, new)
        else:
            for other in list(sys.modules.values()):
                if getattr(other, "__dict__", {}).get(name) is old:
                    setattr(other, name, new)
            for params in (item.callspec.params for item in items if hasattr(item, "callspec")):
                params.update({given: new for given, value in params.items() if value is old})


def _that_follow(changed: ast.stmt, source: str) -> list[ast.stmt]:
    """The constants that are made of a changed one."""
    following: list[ast.stmt] = []
    names = {node.id for node in ast.walk(changed) if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)}
    for statement in ast.parse(source).body if isinstance(changed, ast.Assign | ast.AnnAssign) else ():
        if isinstance(statement, ast.Assign | ast.AnnAssign) and statement.lineno > changed.lineno:
            used = {node.id: type(node.ctx) for node in ast.walk(statement) if isinstance(node, ast.Name)}
            if names & used.keys():
                following.append(statement)
                names |= {name for name, role in used.items() if role is ast.Store}
    return following


def _take(old: Any, new: Any) -> None:
    """Has a function or a class do what another does."""
    if isinstance(old, types.FunctionType):
        old.__code__, old.__defaults__, old.__kwdefaults__ = new.__code__, new.__defaults__, new.__kwdefaults__
    elif isinstance(old, type):
        for name, value in vars(new).items():
            mine = vars(old).get(name)
            if isinstance(mine, types.FunctionType | property | classmethod | staticmethod):
                _take(mine, value)
            elif not name.startswith("__") and mine is not None and not isinstance(mine, types.MemberDescriptorType):
                setattr(old, name, value)
    elif isinstance(old, property):
        _take(old.fget, new.fget)
    elif isinstance(old, classmethod | staticmethod):
        _take(old.__func__, new.__func__)
    elif hasattr(old, "__wrapped__"):
        _take(old.__wrapped__, new.__wrapped__)


def accepted(text: str) -> set[str]:
    """The names of mutants; what is indented or begins with `#` is the reason above them."""
    return {line for line in text.splitlines() if line and not line.startswith("#")}


def tests() -> list[str]:
    """The unit and property tests that name the plan, the fast ones first."""
    files = [*sorted((ROOT / "tests/unit").glob("*.py")), *sorted((ROOT / "tests/property").glob("*.py"))]
    return [str(path) for path in files if "ingest.plan" in path.read_text(encoding="utf-8")]


def main(chosen: list[str]) -> int:
    """1 where a mutant lives that is not accepted, or is accepted and does not live."""
    every = sorted(path.stem for path in PLAN.glob("*.py") if path.stem != "__init__")
    trial = Trial(chosen or every)
    ended = pytest.main(
        [
            "-p",
            "no:terminal",
            "-p",
            "no:cacheprovider",
            "-s",
            "--noconftest",
            "--assert=plain",
            "-o",
            "addopts=--strict-markers",
            *tests(),
        ],
        plugins=[trial],
    )
    if ended != pytest.ExitCode.OK:
        return 1
    known = {name for name in accepted(ACCEPTED.read_text(encoding="utf-8")) if name.split(":")[0] in trial._modules}
    living = set(trial.survivors)
    for name in sorted(living - known):
        print(f"missed:  {name}")
    for name in sorted(known - living):
        print(f"to be struck from {ACCEPTED.name}: {name}")
    print(f"{trial.total - len(living)} of {trial.total} mutants noticed, {len(known & living)} accepted")
    return int(known != living)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
