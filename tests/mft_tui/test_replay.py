"""A whole pipeline, trained, merged, generated, evaluated and exported for real, and replayed."""

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

PROJECT = Path(__file__).resolve().parents[2]

PIPELINE = """
import sys
from pathlib import Path
from mft_tui.cli.launching import launch_and_follow
from runners.benchmarks.demo import demo_benchmarks
from runners.config import (
    EvaluateConfig, ExportConfig, GenerateConfig, MergeConfig, TrainConfig,
)
from runners.lifecycle.folders import StateFolder

folder, tasks = Path(sys.argv[1]), [Path(task) for task in sys.argv[2:]]
benchmark, last = demo_benchmarks(), None

def run(config):
    global last
    outcome = launch_and_follow(config, parent=last)
    if outcome.status != "finished":
        sys.exit(outcome.message)
    last = outcome.run_id
    return StateFolder.default().run(last).artifacts

trained = run(TrainConfig(
    data_paths=tasks, data_split="100,0,0", pretrained_model_path=str(folder / "model"),
    seq_length=512, per_device_train_batch_size=13, num_train_epochs=3, learning_rate=3e-3,
    num_warmup_steps=1, evaluation_steps=0, checkpointing_steps=1000, log_interval=1, use_cpu=True,
))
run(MergeConfig(adapter=trained / "final", output_dir=folder / "merged"))
made = run(GenerateConfig(
    model=str(folder / "merged"), model_name="tiny", benchmarks=benchmark, format="chatml",
    max_length=400, use_cpu=True,
))
generations = made / "generations_tiny"
run(EvaluateConfig(
    generations=generations, benchmarks=benchmark, tasks=["mbpp", "humanevalfixtests-python"],
))
run(ExportConfig(generations=generations))
print(last)
"""


def _python(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return subprocess.run(
        [sys.executable, *arguments],
        capture_output=True,
        text=True,
        timeout=550,
        check=False,
        cwd=PROJECT,
    )


def _mft(*arguments: str) -> "subprocess.CompletedProcess[str]":
    return _python("-c", "from mft_tui.cli.main import main; main()", *arguments)


@pytest.fixture
def tasks(tmp_path: Path) -> list[Path]:
    from runners.benchmarks.demo.records import write_demo_data

    tasks = write_demo_data(tmp_path / "data")
    made = _python("-m", "runners.models.tiny", str(tmp_path / "model"), *map(str, tasks))
    assert made.returncode == 0, made.stderr
    return tasks


def _standings(report: dict[str, Any]) -> Iterator[tuple[str, str, tuple[str, ...]]]:
    for run in report["runs"]:
        for file in run["files"]:
            yield file["kind"], file["standing"], tuple(file["left_out"])


@pytest.mark.slow
def test_a_pipeline_replays_to_the_same_bytes_and_changed_data_is_refused_or_measured(
    tmp_path: Path, tasks: list[Path]
) -> None:
    pytest.importorskip("torch", reason="needs torch: pip install 'mft-tui[train]'")
    first = _python("-c", PIPELINE, str(tmp_path), *map(str, tasks))
    assert first.returncode == 0, first.stderr
    last = first.stdout.strip()

    done = _mft("--replay", last, "--json")
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stdout)
    assert report["grade"] == "A"
    assert [run["kind"] for run in report["runs"]] == [
        "train",
        "merge",
        "generate",
        "evaluate",
        "export",
    ]
    assert (report["identical"], report["within_tolerance"]) == (True, True)
    assert set(_standings(report)) == {
        ("data-cache", "identical", ()),
        ("adapter", "identical", ()),
        ("model", "identical", ()),
        ("generations", "identical", ()),
        ("generations", "identical", ("at", "seconds")),
        ("generations", "identical", ("folders of the runs",)),
        ("metrics", "identical", ()),
        ("verdicts", "identical", ("memory", "seconds")),
        ("submission", "identical", ()),
    }
    losses = next(m for m in report["runs"][0]["metrics"] if m["key"] == "loss")
    assert losses["first_difference"] is None
    assert [run["flipped"] for run in report["runs"]] == [[]] * 5

    changed = next(tasks[0].glob("*.jsonl"))
    lines = changed.read_bytes().splitlines(keepends=True)
    changed.write_bytes(b"".join(lines[:1] * 4))
    refused = _mft("--replay", last)
    assert refused.returncode == 4
    assert str(changed) in refused.stderr.splitlines()[-2]
    assert "--allow-drift dataset" in refused.stderr

    # The replay of the training alone: what goes on from it are replays, and not its pipeline.
    retrained = report["runs"][0]["replay"]
    allowed = _mft("--replay", retrained, "--allow-drift", "dataset", "--json")
    assert allowed.returncode == 3, allowed.stderr
    drifted = json.loads(allowed.stdout)
    assert (drifted["grade"], drifted["within_tolerance"]) == ("C", False)
    (delta,) = drifted["runs"]
    assert any("loss" in problem for problem in delta["problems"])
    assert {f["kind"] for f in delta["files"] if f["standing"] == "differs"} == {
        "data-cache",
        "adapter",
    }
