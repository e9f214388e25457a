"""Parts are built once for a toolchain, and anew when something that went into them is another."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from runners.evaluate.languages.base import Bench, Toolchain
from runners.evaluate.sandbox.base import Limits, Mount
from runners.evaluate.toolcache import prepared


def test_parts_are_built_anew_when_a_crate_in_reach_is_of_another_version(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MFT_TOOLCHAINS", str(tmp_path / "toolchains"))
    crates = tmp_path / "crates"
    (crates / "rand-0.8.5").mkdir(parents=True)
    built: list[Path] = []
    language: Any = SimpleNamespace(name="rust", prepare=lambda _, folder: built.append(folder))
    tool = Toolchain("rust", "rustc 1", {}, (Mount(crates, "/opt/crates"),), {})
    sandbox: Any = SimpleNamespace(name="bwrap")
    bench = Bench(sandbox, tool, Limits(1.0, 1.0), Path())

    first = prepared(language, bench)
    again = prepared(language, bench)
    assert (again, len(built)) == (first, 1)

    (crates / "rand-0.8.5").rename(crates / "rand-0.8.6")
    assert prepared(language, bench) != first
    assert len(built) == 2
