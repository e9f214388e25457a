"""Toolchains that no package brings: from a cache or a registry, whole or not at all.

The registries are folders of this machine, in the formats that cargo and go read; the commands are
the real ones.
"""

import io
import json
import os
import shutil
import subprocess
import zipfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from runners.evaluate.install.__main__ import Need, fetch
from runners.evaluate.install.registries import fetch_crates, fetch_testify
from runners.evaluate.languages.base import Missing
from runners.evaluate.languages.go import Go
from runners.evaluate.languages.rust import Rust

DEBIANS = Path("/usr/share/cargo/registry")


def run(argv: list[str], folder: Path, environment: Mapping[str, str]) -> bool:
    done = subprocess.run(argv, cwd=folder, env=environment, capture_output=True, text=True)
    print(argv, done.stderr)
    return done.returncode == 0


@pytest.fixture
def nowhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Empty caches, and no registry to be reached."""
    cargo = tmp_path / "cargo"
    cargo.mkdir()
    (cargo / "config.toml").write_text("[net]\noffline = true\n")
    monkeypatch.setenv(
        "RUSTUP_HOME", os.environ.get("RUSTUP_HOME", str(Path("~/.rustup").expanduser()))
    )
    monkeypatch.setenv("CARGO_HOME", str(cargo))
    monkeypatch.setenv("GOPATH", str(tmp_path / "gopath"))
    monkeypatch.setenv("GOMODCACHE", str(tmp_path / "modules"))
    monkeypatch.setenv("GOPROXY", f"file://{tmp_path}/proxy")
    monkeypatch.setenv("GONOSUMDB", "*")
    monkeypatch.setenv("GONOSUMCHECK", "1")
    monkeypatch.setenv("MFT_TOOLCHAINS", str(tmp_path / "toolchains"))
    return tmp_path


def needs(tool: str) -> None:
    if shutil.which(tool) is None:
        pytest.skip(f"needs {tool}: python -m runners.evaluate.install")


@pytest.mark.slow
def test_crates_come_from_the_registry_that_cargo_is_configured_with(nowhere: Path) -> None:
    needs("cargo")
    if not next(DEBIANS.glob("rand-0.8.5"), None):
        pytest.skip("the stand-in for crates.io is Debian's: apt-get install librust-rand-dev")
    (nowhere / "cargo" / "config.toml").write_text(
        f'[source.crates-io]\nreplace-with = "here"\n\n[source.here]\ndirectory = "{DEBIANS}"\n'
    )

    assert fetch_crates(nowhere / "toolchains", run) is None

    crates = nowhere / "toolchains" / "crates"
    assert {"rand-0.8.5", "regex-1.7.1", "md5-0.7.0"} <= {path.name for path in crates.iterdir()}
    assert json.loads((crates / "md5-0.7.0" / ".cargo-checksum.json").read_text())
    assert [path.name for path in (nowhere / "toolchains").iterdir()] == ["crates"]


@pytest.mark.slow
def test_without_a_registry_it_is_said_and_nothing_is_left(nowhere: Path) -> None:
    needs("cargo")
    needs("go")
    home = nowhere / "toolchains"

    told = [
        *fetch([Need("rust (x)", (), "line"), Need("go (y)", (), "line")], home, run),
        *fetch([Need("java (z)", (), "line")], home, run),
    ]

    assert told == [
        "rust (x): neither cargo's cache nor crates.io gave it",
        "go (y): neither go's cache nor the Go module proxy gave it",
    ]
    assert [*home.iterdir()] == []


def proxy(folder: Path) -> None:
    """A Go module proxy (go.dev/ref/mod#goproxy-protocol) with one small module."""
    module = "github.com/stretchr/testify"
    versions = folder / module / "@v"
    versions.mkdir(parents=True)
    text = f"module {module}\n\ngo 1.13\n"
    (versions / "list").write_text("v1.8.1\n")
    (versions / "v1.8.1.info").write_text(json.dumps({"Version": "v1.8.1"}))
    (versions / "v1.8.1.mod").write_text(text)
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        archive.writestr(f"{module}@v1.8.1/go.mod", text)
        archive.writestr(f"{module}@v1.8.1/assert/assert.go", "package assert\n")
    (versions / "v1.8.1.zip").write_bytes(content.getvalue())


@pytest.mark.slow
def test_testify_comes_from_the_proxy_and_then_from_the_cache(
    nowhere: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    needs("go")
    proxy(nowhere / "proxy")
    monkeypatch.setattr("runners.evaluate.languages.go._GOPATHS", ())
    assert isinstance(Go().discover(), Missing)

    assert fetch_testify(nowhere / "toolchains", run) is None

    found = Go().discover()
    assert not isinstance(found, Missing)
    assert nowhere / "toolchains" / "go" in [mount.source for mount in found.mounts]

    shutil.rmtree(nowhere / "proxy")
    assert fetch_testify(nowhere / "others", run) is None
    subprocess.run(["chmod", "-R", "u+w", str(nowhere / "modules")], check=True)


@pytest.mark.slow
def test_crates_that_were_fetched_are_found(nowhere: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    needs("cargo")
    monkeypatch.setattr("runners.evaluate.languages.rust._DEBIANS", nowhere / "none")
    assert isinstance(Rust().discover(), Missing)

    (nowhere / "toolchains" / "crates" / "rand-0.8.5").mkdir(parents=True)

    found = Rust().discover()
    assert not isinstance(found, Missing)
    assert nowhere / "toolchains" / "crates" in [mount.source for mount in found.mounts]
