"""Makes an environment and installs a lock into it: with uv, which takes seconds, and with pip where uv cannot do it.

    python3 tools/environment.py .venv requirements.lock

Each way checks each hash. uv is the one in the environment, the one of `.venv`, the one on the PATH, or the one that
the lock names, in this order. Needs Python and its pip, nothing else.
"""

from __future__ import annotations

import ast
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

OLDEST_UV = (0, 8)  # pyproject.toml's; older ones overlook a variable that is set here, and would ask another index
_SHOWN = 300

# uv does not read pip's settings. Indexes and proxies may hold a password, and arguments can be read by every user of a
# machine: they go by variables.
_VARIABLES = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "client-cert": ("SSL_CLIENT_CERT", " "),
}
_PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "http_proxy", "https_proxy")
_ARGUMENTS = ("only-binary", "no-binary")


def settings_of_pip(listed: str) -> dict[str, str]:
    """The settings that `pip install` follows, from the lines of `pip config list`: a variable goes before a section of
    the command, and that before the global one."""
    sections: dict[str, dict[str, str]] = {"global": {}, "install": {}, ":env:": {}}
    for line in listed.splitlines():
        found = re.fullmatch(r"(global|install|:env:)\.([\w-]+)=(['\"].*)", line)
        if found and (value := ast.literal_eval(found[3])):
            sections[found[1]][found[2].replace("_", "-")] = value
    return sections["global"] | sections["install"] | sections[":env:"]


def variables_for_uv(settings: Mapping[str, str], environ: Mapping[str, str]) -> dict[str, str]:
    """The environment in which uv asks whom pip would ask. What was said to uv itself stays; hashes are checked."""
    told = {name: between.join(settings[key].split()) for key, (name, between) in _VARIABLES.items() if key in settings}
    # pip takes a file from any of its indexes. Each must have a hash of the lock, so it does not matter which.
    told |= {"UV_INDEX_STRATEGY": "unsafe-best-match", "UV_PYTHON_DOWNLOADS": "never"}
    # A file that is shared with the cache, and edited where it is installed, would be installed as edited ever after.
    told |= {"UV_LINK_MODE": "copy"}
    if "cert" in settings:
        told["SSL_CERT_DIR" if Path(settings["cert"]).is_dir() else "SSL_CERT_FILE"] = settings["cert"]
    if "proxy" in settings:
        told |= dict.fromkeys(_PROXIES, settings["proxy"])
    kept = {name: value for name, value in environ.items() if name.startswith("UV_") or name not in told}
    return {name: value for name, value in (told | kept).items() if name != "UV_NO_VERIFY_HASHES"}


def arguments_for_uv(settings: Mapping[str, str]) -> list[str]:
    """What uv has no variable for."""
    given = [f"--{key}={name}" for key in _ARGUMENTS for name in settings.get(key, "").replace(",", " ").split()]
    return [*given, *(["--no-index"] if settings.get("no-index", "").lower() in ("1", "true", "yes", "on") else [])]


def locked(name: str, lock: str) -> str | None:
    """One requirement of a lock with its hashes."""
    found = re.search(rf"^{name}==.*(?:(?<=\\)\n.*)*", lock, re.MULTILINE)
    return found[0] if found else None


def say(words: str) -> None:
    print(words, flush=True)


def quietly(command: Sequence[str | Path], environ: Mapping[str, str] | None = None) -> tuple[bool, str, str]:
    """Whether a command succeeded, and its two outputs; one that cannot be started did not."""
    try:
        done = subprocess.run(command, env=environ, capture_output=True, text=True, errors="replace", check=False)
    except OSError as error:
        return False, "", str(error)
    return done.returncode == 0, done.stdout, done.stderr or f"exit code {done.returncode}"


class Environment:
    """A directory of `venv`, with the pip in it."""

    def __init__(self, home: Path) -> None:
        self.python = home / "bin" / "python"
        self.uv = home / "bin" / "uv"
        self.unfinished = home / ".unfinished"
        self._home = home
        self._pip: list[str | Path] = [self.python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]

    def make(self) -> None:
        """Makes what is missing: all, where its Python does not run, or pip."""
        runs, _, _ = quietly([self.python, "-c", ""])
        if runs and quietly([self.python, "-m", "pip", "--version"])[0]:
            return
        made = subprocess.run([sys.executable, "-m", "venv", *([] if runs else ["--clear"]), self._home], check=False)
        if made.returncode:
            sys.exit(made.returncode)

    def install_with_uv(self, lock: Path) -> bool:
        listed, settings_listed, _ = quietly([self.python, "-m", "pip", "config", "list"])
        settings = settings_of_pip(settings_listed)
        uv = (self._uv_at_hand() or self._uv_of_the_lock(lock)) if listed else None
        if uv is None:
            say("There is no uv, and none can be installed: pip takes a minute or two.")
            return False
        command: list[str | Path] = [uv, "pip", "install", "--quiet", "--python", self.python, *self._again()]
        command += [*arguments_for_uv(settings), "--require-hashes", "--requirements", lock]
        self.unfinished.touch()
        environ = variables_for_uv(settings, os.environ)
        # Versions are pinned, so that what the cache has is as good as what an index would say.
        if quietly([*command, "--offline"], environ)[0]:
            return True
        done, _, trouble = quietly(command, environ)
        if not done:
            say(f"uv could not do it ({' '.join(trouble.split())[:_SHOWN]}): pip tries, a minute or two.")
        return done

    def install_with_pip(self, lock: Path) -> int:
        again = self._again()
        self.unfinished.touch()
        return subprocess.run([*self._pip, *again, "--require-hashes", "--requirement", lock], check=False).returncode

    def _again(self) -> list[str]:
        """An installation that was broken off leaves packages that look whole."""
        return ["--force-reinstall"] if self.unfinished.exists() else []

    def _uv_at_hand(self) -> Path | None:
        on_path = shutil.which("uv")
        for uv in (self.uv, Path(".venv/bin/uv"), *([Path(on_path)] if on_path else [])):
            found = re.match(r"uv (\d+)\.(\d+)", quietly([uv, "--version"])[1])
            if found and (int(found[1]), int(found[2])) >= OLDEST_UV:
                return uv
        return None

    def _uv_of_the_lock(self, lock: Path) -> Path | None:
        requirement = locked("uv", lock.read_text(encoding="utf-8"))
        if requirement is None:
            return None
        with tempfile.NamedTemporaryFile("w", suffix=".lock", encoding="utf-8") as alone:
            alone.write(requirement + "\n")
            alone.flush()
            done, _, _ = quietly([*self._pip, "--no-deps", "--require-hashes", "--requirement", alone.name])
        return self._uv_at_hand() if done else None


def main(home: Path, lock: Path) -> int:
    """The exit code of what installed it."""
    say(f"Installing {lock} into {home}: some ten seconds with uv, and what the downloads take.")
    environment = Environment(home)
    environment.make()
    failed = 0 if environment.install_with_uv(lock) else environment.install_with_pip(lock)
    if not failed:
        environment.unfinished.unlink(missing_ok=True)
    return failed


if __name__ == "__main__":
    try:
        sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
    except KeyboardInterrupt:
        sys.exit(130)
