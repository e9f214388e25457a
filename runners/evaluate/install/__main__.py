"""``python -m runners.evaluate.install``: install what is missing, and say what could not be.

Quick and silent about what is there already. Debian's packages come first; crates and Go packages
that they did not bring come from the registries. It never fails: what it could not do is named with
the line that does it, and the tests that need it are skipped.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from runners.evaluate.install import registries
from runners.evaluate.languages.base import Missing
from runners.evaluate.languages.js import PACKAGE
from runners.evaluate.sandbox.choose import INSTALL_BWRAP
from runners.evaluate.toolchains import discover
from runners.evaluate.toolfolders import tool_home

PACKAGES = {
    "python": (),
    "java": ("default-jdk-headless",),
    "js": ("nodejs", "npm"),
    "cpp": ("g++", "libboost-dev", "libssl-dev"),
    "go": ("golang-go", "gcc", "libc6-dev", "golang-github-stretchr-testify-dev"),
    "rust": ("gcc", "libc6-dev", "librust-rand-dev", "librust-regex-dev", "librust-md5-dev"),
}
"""Debian's packages for each language; rustc and cargo only where no rustup put them."""

_PATIENCE_SECONDS = 1800.0
Command = Callable[[list[str]], bool]


@dataclass(frozen=True)
class Need:
    """Something that is not there: its name, Debian's packages for it, and the line to type."""

    name: str
    packages: tuple[str, ...]
    line: str


def needs() -> list[Need]:
    """What this machine lacks for scoring all 13 tasks."""
    found = [
        Need(f"{tool.language} ({tool.what})", packages_for(tool.language), tool.install)
        for tool in discover()
        if isinstance(tool, Missing)
    ]
    if shutil.which("bwrap") is None:
        found.insert(0, Need("the sandbox (bubblewrap)", ("bubblewrap",), INSTALL_BWRAP))
    return found


def packages_for(language: str) -> tuple[str, ...]:
    """Debian's packages for a language, without compilers that are there from elsewhere."""
    packages = PACKAGES[language]
    if language == "rust" and (shutil.which("rustc") is None or shutil.which("cargo") is None):
        packages = (*packages, "rustc", "cargo")
    if language == "js":
        there = {"nodejs": "node", "npm": "npm"}
        packages = tuple(name for name in packages if shutil.which(there[name]) is None)
    return packages


def install(missing: Iterable[Need], run: Command, *, is_root: bool, has_apt: bool) -> None:
    """Install with apt where that is possible, then js-md5 with npm."""
    wanted = sorted({package for need in missing for package in need.packages})
    if wanted and is_root and has_apt:
        run(["apt-get", "update", "-q"])
        if not run(_apt_install(wanted)):
            # One unknown package must not keep the others away.
            for package in wanted:
                run(_apt_install([package]))
    modules = tool_home() / "npm"
    if shutil.which("npm") and not (modules / "node_modules" / "js-md5").is_dir():
        modules.mkdir(parents=True, exist_ok=True)
        run(["npm", "install", "--no-audit", "--no-fund", "--prefix", str(modules), PACKAGE])


def fetch(missing: Iterable[Need], home: Path, run: registries.Run) -> Iterator[str]:
    """Get from the registries what Debian did not bring; yield what could not be got, and why."""
    ways = {"rust": registries.fetch_crates, "go": registries.fetch_testify}
    for need in missing:
        language = need.name.partition(" ")[0]
        if language in ways and (why := ways[language](home, run)) is not None:
            yield f"{need.name}: {why}"


def _apt_install(packages: list[str]) -> list[str]:
    return ["apt-get", "install", "-y", "-q", "--no-install-recommends", *packages]


def _run(
    argv: list[str], folder: Path | None = None, environment: Mapping[str, str] = os.environ
) -> bool:
    print("+", " ".join(argv), file=sys.stderr, flush=True)
    try:
        done = subprocess.run(
            argv,
            cwd=folder,
            env={**environment, "DEBIAN_FRONTEND": "noninteractive"},
            stdin=subprocess.DEVNULL,
            stdout=sys.stderr,
            timeout=_PATIENCE_SECONDS,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        print(f"  {error}", file=sys.stderr)
        return False
    return done.returncode == 0


def main() -> int:
    """Install, then name what is still missing; 0 always."""
    if missing := needs():
        install(
            missing,
            _run,
            is_root=os.geteuid() == 0,
            has_apt=Path("/usr/bin/apt-get").exists(),
        )
        for told in fetch(needs(), tool_home(), _run):
            print(f"not in a registry either: {told}", file=sys.stderr)
        for need in needs():
            print(f"missing: {need.name}\n  install it with: {need.line}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main())
