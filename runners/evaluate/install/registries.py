"""Rust crates and Go packages from their registries, where no Debian package brings them.

Each is tried from what the person's own cargo or go has cached, then from the registry (or the
mirror that cargo or go is configured with), in the pinned versions. What comes is laid out as the
languages look for it: a cargo directory source, a GOPATH. It is only ever put there whole.
"""

import os
import shutil
import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

Run = Callable[[list[str], Path, Mapping[str, str]], bool]
"""Runs a command in a folder with these variables added; whether it succeeded."""

_CARGO_TOML = """[package]
name = "vendored"
version = "0.0.0"
edition = "2021"

[dependencies]
rand = "{rand}"
regex = {{ version = "{regex}", default-features = false, features = ["std", "unicode"] }}
md5 = "{md5}"
"""
_CACHED_CRATES = {"rand": "0.8", "regex": "1", "md5": "0.7"}
PINNED_CRATES = {"rand": "=0.8.5", "regex": "=1.7.1", "md5": "=0.7.0"}
PINNED_TESTIFY = "github.com/stretchr/testify@v1.8.1"
_TESTIFY = "src/github.com/stretchr/testify/assert"
_GO_MOD = "module vendored\n\ngo 1.17\n"
_GO_FILE = 'package vendored\n\nimport _ "github.com/stretchr/testify/assert"\n'


@dataclass(frozen=True)
class Source:
    """A place to get something from: the commands, in order, and variables for them."""

    name: str
    commands: tuple[tuple[str, ...], ...]
    files: Mapping[str, str]
    environment: Mapping[str, str] = field(default_factory=dict)


def fetch_crates(home: Path, run: Run) -> str | None:
    """Vendor the crates into ``home``/crates; None when they are there, else why not."""
    if shutil.which("cargo") is None:
        return "cargo is not installed"
    vendor = ("cargo", "vendor", "--versioned-dirs", "--respect-source-config", "got")
    sources = (
        Source("cargo's cache", ((*vendor, "--offline"),), _crate_files(_CACHED_CRATES)),
        Source("crates.io", (vendor,), _crate_files(PINNED_CRATES)),
    )
    return _fetch(sources, home / "crates", run, lambda got: any(got.glob("rand-0.8*")))


def _crate_files(versions: Mapping[str, str]) -> dict[str, str]:
    return {"Cargo.toml": _CARGO_TOML.format(**versions), "src/lib.rs": ""}


def fetch_testify(home: Path, run: Run) -> str | None:
    """Lay out testify as a GOPATH in ``home``/go; None when it is there, else why not."""
    if shutil.which("go") is None:
        return "go is not installed"
    commands = (
        ("go", "get", PINNED_TESTIFY),
        ("go", "mod", "vendor"),
        ("mkdir", "got"),
        ("mv", "vendor", "got/src"),
    )
    files = {"go.mod": _GO_MOD, "vendored.go": _GO_FILE}
    modules = {"GO111MODULE": "on", "GOFLAGS": "-mod=mod", "GOTOOLCHAIN": "local"}
    sources = (
        Source("go's cache", commands, files, {**modules, "GOPROXY": "off"}),
        Source("the Go module proxy", commands, files, modules),
    )
    return _fetch(sources, home / "go", run, lambda got: (got / _TESTIFY).is_dir())


def _fetch(
    sources: tuple[Source, ...], target: Path, run: Run, whole: Callable[[Path], bool]
) -> str | None:
    if target.is_dir():
        return None
    target.parent.mkdir(parents=True, exist_ok=True)
    for source in sources:
        # Beside the target, so that it can be renamed.
        with tempfile.TemporaryDirectory(prefix=".fetch-", dir=target.parent) as folder:
            place = Path(folder)
            for name, text in source.files.items():
                (place / name).parent.mkdir(exist_ok=True)
                (place / name).write_text(text)
            environment = {**os.environ, **source.environment}
            done = all(run(list(command), place, environment) for command in source.commands)
            if done and whole(place / "got"):
                (place / "got").rename(target)
                return None
    return f"neither {' nor '.join(source.name for source in sources)} gave it"
