"""A set is continued by what began it, and by one job at a time; anything else is refused."""

import json
import shutil
import subprocess
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.generate.job import _alone
from runners.generate.ranks import Ranks
from runners.lifecycle.locking import exclusive
from tests.runners.generate.conftest import make_model, make_tokenizer
from tests.runners.generate.test_job import (
    PROJECT,
    answered,
    command,
    environment,
    finished,
    prepared,
    task_files,
)


@pytest.fixture
def model(tmp_path: Path, checkpoint: Callable[[str], Path]) -> Path:
    """A checkpoint of this test's own, which may be changed."""
    return Path(shutil.copytree(checkpoint("qwen2"), tmp_path / "model"))


def asked(run: Path, model: Path, **changes: Any) -> Path:
    return prepared(run, **{"model": str(model), "max_length": 60, "tasks": ["mbpp"]} | changes)


def refused(run: Path) -> str:
    result = finished(run)
    assert result.returncode == 4, result.stderr
    assert "Traceback" not in result.stderr
    return result.stderr


def test_a_checkpoint_trained_again_under_its_name_does_not_continue_a_set(
    tmp_path: Path, model: Path
) -> None:
    run = asked(tmp_path / "run", model)
    assert finished(run).returncode == 0
    (model / "README.md").write_text("what it was trained on")
    (model / "generations_tiny").mkdir()
    (model / "generations_tiny" / "generations_mbpp_tiny.json").write_text("[]")
    assert finished(run).returncode == 0

    retrained = make_model("qwen2", len(make_tokenizer()))
    retrained.lm_head.weight.data.mul_(1.5)
    retrained.save_pretrained(model)
    assert "are here already (the content of the model)" in refused(run)


def test_an_adapter_whose_base_has_changed_does_not_continue_a_set(
    tmp_path: Path, model: Path
) -> None:
    from peft import LoraConfig, get_peft_model

    base = make_model("qwen2", len(make_tokenizer()))
    adapted = get_peft_model(base, LoraConfig(r=2, target_modules=["q_proj"]))
    adapted.peft_config["default"].base_model_name_or_path = str(model)
    adapted.save_pretrained(tmp_path / "adapter")
    run = asked(tmp_path / "run", tmp_path / "adapter")
    assert finished(run).returncode == 0
    settings = json.loads((model / "config.json").read_text())
    (model / "config.json").write_text(json.dumps({**settings, "rms_norm_eps": 1e-5}))
    assert "(the content of the base of the adapter)" in refused(run)


def test_another_dtype_does_not_continue_a_set(tmp_path: Path, model: Path) -> None:
    run = asked(tmp_path / "run", model, use_cpu=True)
    assert finished(run).returncode == 0
    asked(run, model, use_cpu=True, dtype="fp32")
    assert finished(run).returncode == 0, "auto is float32 on a CPU"
    asked(run, model, use_cpu=True, dtype="bf16")
    assert "are here already (dtype)" in refused(run)


def test_a_manifest_from_before_a_setting_was_known_is_continued_with_its_default(
    tmp_path: Path, model: Path
) -> None:
    run = asked(tmp_path / "run", model)
    assert finished(run).returncode == 0
    path = run / "artifacts" / "generations_tiny" / "generation_tiny.json"
    manifest = json.loads(path.read_text())
    del manifest["made_with"], manifest["settings"]["adapter_mode"]
    path.write_text(json.dumps(manifest))
    assert finished(run).returncode == 0
    path.write_text(json.dumps(manifest))
    asked(run, model, adapter_mode="unmerged")
    assert "(adapter_mode)" in refused(run)


def test_a_completions_file_may_grow_but_what_was_taken_from_it_must_stay(tmp_path: Path) -> None:
    made = tmp_path / "made.jsonl"
    first = {"task": "mbpp", "index": 0, "completion": "def a():\n    return 1\n"}
    second = {"task": "mbpp", "index": 1, "completion": "def b():\n    return 2\n"}
    made.write_text(json.dumps(first) + "\n")
    run = prepared(tmp_path / "run", engine="completions", completions=str(made), tasks=["mbpp"])
    assert finished(run).returncode == 1
    made.write_text(json.dumps(first) + "\n" + json.dumps(second) + "\n")
    assert finished(run).returncode == 0
    assert "return 2" in task_files(run)["generations_mbpp_tiny.json"].decode()

    made.write_text(json.dumps({**first, "completion": "def c(): pass"}) + "\n")
    said = refused(run)
    assert "2 completions that were taken from" in said
    assert "mbpp 0, mbpp 1" in said


def test_a_folder_in_which_somebody_generates_is_left_to_them(tmp_path: Path, model: Path) -> None:
    run = asked(tmp_path / "run", model)
    folder = run / "artifacts" / "generations_tiny"
    folder.mkdir(parents=True)
    with exclusive(folder / ".lock") as alone:
        assert alone
        assert "another generation is writing to this folder" in refused(run)
    assert answered(run) == []
    assert finished(run).returncode == 0


def test_only_the_leader_of_several_ranks_holds_the_folder(tmp_path: Path) -> None:
    with exclusive(tmp_path / ".lock") as alone, _alone(tmp_path, Ranks(rank=1, count=2)):
        assert alone


def test_a_job_that_is_still_dying_is_waited_for(tmp_path: Path) -> None:
    held, let_go = threading.Event(), threading.Event()

    def die() -> None:
        with exclusive(tmp_path / ".lock"):
            held.set()
            let_go.wait(10)
            time.sleep(0.2)

    dying = threading.Thread(target=die)
    dying.start()
    assert held.wait(10)
    let_go.set()
    with _alone(tmp_path, Ranks()), exclusive(tmp_path / ".lock") as free:
        assert not free
    dying.join()


@pytest.mark.slow
def test_of_two_jobs_started_at_once_one_answers_and_nothing_is_answered_twice(
    tmp_path: Path, model: Path
) -> None:
    output = tmp_path / "out"
    runs = [
        prepared(
            tmp_path / name,
            model=str(model),
            max_length=420,
            batch_size=3,
            output_dir=str(output),
            benchmarks=str(demo_benchmarks()),
        )
        for name in ("one", "two")
    ]
    jobs = []
    for run in runs:
        jobs.append(
            subprocess.Popen(
                command(run), env=environment(), cwd=PROJECT, stderr=subprocess.PIPE, text=True
            )
        )
        time.sleep(0.5)
    codes = sorted(job.wait(timeout=500) for job in jobs)
    # The other may also have waited for the first to end; then it has found nothing left to do.
    assert codes in ([0, 4], [0, 0]), [job.stderr.read() for job in jobs if job.stderr]
    keys = [
        (line["task"], line["index"])
        for path in (output / "generations_tiny").glob("completions_*.jsonl")
        for line in map(json.loads, path.read_text().splitlines())
    ]
    assert len(keys) == len(set(keys)) == 2 * len(TASKS)
