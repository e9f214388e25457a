"""What ``mft-tui generate`` shows while it runs, and what it refuses before anything is loaded."""

import io
import json
from pathlib import Path

import pytest
from rich.console import Console
from typer.testing import CliRunner

from mft_tui.cli.commands import app
from mft_tui.cli.following import PlainDisplay, display_for
from runners.benchmarks.demo import demo_benchmarks
from runners.lifecycle.events import Metrics, Progress
from runners.lifecycle.folders import RunFolder


def progress(stage: str, done: int, at: float) -> Progress:
    return Progress(at=at, seq=2, stage=stage, done=done, total=26, unit="questions")


def rates(at: float) -> Metrics:
    values: dict[str, float | str] = {"questions_per_second": 2.5, "tokens_per_second": 1234.5}
    return Metrics(at=at, seq=3, step=3, values=values)


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """A generation of the demo that has answered two questions."""
    folder = RunFolder(tmp_path / "run")
    made = folder.artifacts / "generations_m"
    made.mkdir(parents=True)
    other = folder.artifacts / "generations_another"
    other.mkdir()
    config = {"model_name": "m", "benchmarks": str(demo_benchmarks()), "tasks": ["mbpp"]}
    folder.config.write_text(json.dumps(config))
    stop = "stop word '\\nprint'"
    ended = {"completion": "def f():\n    return 1\nprint", "finish": "rule", "stop": stop}
    cut = {"completion": "def g", "finish": "length"}
    lines = [{"task": "mbpp", "index": 0, **ended}, {"task": "mbpp", "index": 1, **cut}]
    (made / "completions_mbpp_m.jsonl").write_text("".join(json.dumps(x) + "\n" for x in lines))
    (other / "completions_mbpp_another.jsonl").write_text("")
    return folder


def test_on_a_terminal_tasks_rates_and_the_last_completions_with_their_end_are_shown(
    run: RunFolder,
) -> None:
    out = io.StringIO()
    console = Console(file=out, force_terminal=True, width=120, height=40)
    with display_for(console, "abc", run) as display:
        for event in (progress("generate", 3, 10.0), progress("generate", 8, 12.0), rates(12.0)):
            display.event(event)
        display.tick()
    shown = out.getvalue()
    assert "mbpp" in shown
    assert " 2/2" in shown
    assert "stop word '\\nprint'" in shown
    assert "def f():" in shown
    assert "length" in shown
    assert "2.5 questions/s" in shown
    assert "1,234 tokens/s" in shown
    assert "left" in shown


def test_in_a_log_a_task_is_told_when_it_is_complete(run: RunFolder) -> None:
    out = io.StringIO()
    display = PlainDisplay(Console(file=out, width=120), "abc", clock=lambda: 0.0)
    with display:
        display.event(progress("generate", 1, 1.0))
        for second in range(2, 20):
            display.event(progress("generate", second, float(second)))
            display.tick()
        display.event(progress("mbpp", 26, 21.0))
        display.event(progress("generate", 26, 21.0))
    lines = out.getvalue().splitlines()
    assert 2 <= len(lines) <= 5
    assert any("mbpp" in line for line in lines)
    assert any("26" in line for line in lines)


@pytest.mark.parametrize(
    "name", ["a/b", "a b", "ü", "a:b", "", "..", "x" * 121, "x.", "CON", "nul.1"]
)
def test_a_model_name_that_files_cannot_carry_is_refused_before_anything_is_loaded(
    name: str, mft_home: Path
) -> None:
    result = CliRunner().invoke(
        app, ["generate", "--model", "/nowhere", "--model-name", name, "--engine", "transformers"]
    )
    assert result.exit_code != 0
    assert result.exception is not None
    assert "model name" in str(result.exception)
    assert not (mft_home / "runs").exists()
