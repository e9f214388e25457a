"""What the evaluation tests share: rows, generations folders, run folders, one bench a language."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from runners.evaluate.languages import get_language
from runners.evaluate.languages.base import Bench, Judgement, Missing, Source
from runners.evaluate.sandbox.base import Limits
from runners.evaluate.sandbox.bwrap import BwrapSandbox
from runners.evaluate.toolcache import prepared

Rows = Callable[[str], list[dict[str, Any]]]


@pytest.fixture(scope="session")
def rows(shared: Path) -> Rows:
    """The benchmark's rows of a language, or of mbpp (its 500 questions)."""

    def load(name: str) -> list[dict[str, Any]]:
        file = "mbpp.jsonl" if name == "mbpp" else f"humanevalpack/{name}.jsonl"
        found = [json.loads(line) for line in (shared / "benchmarks" / file).open()]
        return found[10:510] if name == "mbpp" else found

    return load


@pytest.fixture
def box() -> Iterator[BwrapSandbox]:
    """A bubblewrap sandbox of the test's own."""
    if shutil.which("bwrap") is None:
        pytest.skip("needs bubblewrap: apt-get install -y bubblewrap")
    sandbox = BwrapSandbox()
    yield sandbox
    sandbox.close()


@dataclass(frozen=True)
class Bar:
    """Judges programs of one language both ways."""

    bench: Bench

    @property
    def name(self) -> str:
        return self.bench.toolchain.language

    def source(self, row: dict[str, Any], candidate: str, family: str) -> Source:
        text = get_language(self.name).assemble(row, candidate, family)
        return Source(text, row, family)

    def plain(self, source: Source) -> Judgement:
        return get_language(self.name).judge(source, self.bench)

    def fast(self, sources: list[Source]) -> list[Judgement | None]:
        way = get_language(self.name).fast(self.bench)
        if way is None:
            return [None] * len(sources)
        try:
            return way.judge(sources)
        finally:
            way.close()


OpenBar = Callable[..., Bar]


@pytest.fixture
def bar(box: BwrapSandbox) -> OpenBar:
    """Opens a bar for a language; skips, saying why, where its toolchain is missing."""

    def open_bar(language: str, *, slack: float = 1.0, strict: bool = False) -> Bar:
        tool = get_language(language).discover()
        if isinstance(tool, Missing):
            pytest.skip(f"{tool.what}: {tool.install}")
        limits = Limits(1.0, 1.0, memory_bytes=2 << 30)
        bench = Bench(box, tool, limits, Path(), strict=strict, slack=slack)
        return Bar(replace(bench, prepared=prepared(get_language(language), bench)))

    return open_bar


@dataclass(frozen=True)
class Run:
    """A run folder and the job that was run on it."""

    folder: Path

    @property
    def events(self) -> list[dict[str, Any]]:
        return [json.loads(line) for line in (self.folder / "events.jsonl").open()]

    @property
    def summary(self) -> dict[str, Any]:
        return next(e["summary"] for e in self.events if e["event"] == "finished")

    def metrics(self, task: str, model: str = "tiny") -> dict[str, Any]:
        path = self.folder / "artifacts" / f"metrics_{model}" / f"metrics_{task}_{model}.json"
        return dict(json.loads(path.read_text()))

    def verdicts(self, task: str, model: str = "tiny") -> list[dict[str, Any]]:
        path = self.folder / "artifacts" / f"metrics_{model}" / f"verdicts_{task}_{model}.jsonl"
        return [json.loads(line) for line in path.open()]

    def benchmarks(self, languages: dict[str, list[dict[str, Any]]]) -> None:
        """Take these rows for the benchmark's."""
        folder = self.folder / "benchmarks" / "humanevalpack"
        folder.mkdir(parents=True)
        for language, rows in languages.items():
            (folder / f"{language}.jsonl").write_text("".join(json.dumps(r) + "\n" for r in rows))
        config = json.loads((self.folder / "config.json").read_text())
        config["benchmarks"] = str(folder.parent)
        (self.folder / "config.json").write_text(json.dumps(config))

    def start(self, **environment: str) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "runners.evaluate", str(self.folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **environment},
        )

    def finish(self, *, patience: float = 500, **environment: str) -> tuple[int, str]:
        process = self.start(**environment)
        said, _ = process.communicate(timeout=patience)
        return process.returncode, said


NewRun = Callable[..., Run]


@pytest.fixture
def new_run(tmp_path: Path, shared: Path) -> NewRun:
    """Writes generations and the config of a run over them."""

    def make(generations: dict[str, list[list[str]]], *, name: str = "run", **config: Any) -> Run:
        folder = tmp_path / "generations_tiny"
        folder.mkdir(exist_ok=True)
        for task, stored in generations.items():
            (folder / f"generations_{task}_tiny.json").write_text(json.dumps(stored))
        run = tmp_path / name
        run.mkdir(exist_ok=True)
        whole = {"generations": str(folder), "benchmarks": str(shared / "benchmarks"), **config}
        (run / "config.json").write_text(json.dumps(whole))
        return Run(run)

    return make
