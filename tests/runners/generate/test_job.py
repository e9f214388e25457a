"""The generation job as a program: real run folders, real processes, real files."""

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from runners.benchmarks.demo import demo_benchmarks, ideal_answers
from runners.benchmarks.prompts import REFERENCE
from runners.benchmarks.tasks import TASKS

PROJECT = Path(__file__).resolve().parents[3]


def prepared(folder: Path, **config: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    given = {"model_name": "tiny", "benchmarks": str(demo_benchmarks()), **config}
    (folder / "config.json").write_text(json.dumps(given))
    return folder


def command(run: Path) -> list[str]:
    return [sys.executable, "-m", "runners.generate", str(run)]


def environment() -> dict[str, str]:
    return {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONPATH": str(PROJECT)}


def finished(run: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command(run), capture_output=True, text=True, env=environment(), cwd=PROJECT, timeout=500
    )


def task_files(run: Path) -> dict[str, bytes]:
    folder = run / "artifacts" / "generations_tiny"
    return {path.name: path.read_bytes() for path in folder.glob("generations_*.json")}


def answered(run: Path) -> list[tuple[str, int]]:
    folder = run / "artifacts" / "generations_tiny"
    return [
        (line["task"], line["index"])
        for path in folder.glob("completions_*.jsonl")
        for line in map(json.loads, path.read_text().splitlines())
    ]


def test_completions_made_elsewhere_become_the_files_of_a_normal_run(tmp_path: Path) -> None:
    lines = [
        {"task": a.task, "index": a.index, "completion": a.completion + "<|im_end|>"}
        for a in ideal_answers(REFERENCE)
    ]
    made = tmp_path / "made.jsonl"
    made.write_text("".join(json.dumps(line) + "\n" for line in reversed(lines)))
    run = prepared(tmp_path / "run", engine="completions", completions=str(made))
    result = finished(run)
    assert result.returncode == 0, result.stderr
    files = task_files(run)
    assert sorted(files) == sorted(f"generations_{task}_tiny.json" for task in TASKS)
    stored = json.loads(files["generations_humanevalfixtests-js_tiny.json"])
    assert stored[0] == ["\nconst add = (a, b) => {\n  return a + b;\n}"]


def test_the_golden_completions_are_stored_byte_for_byte_by_the_job(
    tmp_path: Path, shared: Path
) -> None:
    goldens = shared / "goldens" / "postprocess.jsonl"
    run = prepared(
        tmp_path / "run",
        engine="completions",
        completions=str(goldens),
        benchmarks=str(shared / "benchmarks"),
    )
    result = finished(run)
    assert result.returncode == 0, result.stderr
    expected: dict[str, list[list[str]]] = {}
    for known in map(json.loads, goldens.read_text().splitlines()):
        expected.setdefault(known["task"], []).append([known["generation"]])
    assert task_files(run) == {
        f"generations_{task}_tiny.json": json.dumps(stored).encode()
        for task, stored in expected.items()
    }


def test_questions_that_a_completions_file_lacks_are_named(tmp_path: Path) -> None:
    made = tmp_path / "made.jsonl"
    made.write_text('{"task": "mbpp", "index": 1, "completion": "def f(): pass"}\n')
    result = finished(prepared(tmp_path / "run", engine="completions", completions=str(made)))
    assert result.returncode == 1
    assert "1 questions have no completion: mbpp 0" in result.stderr


@pytest.mark.parametrize(
    ("config", "code", "said"),
    [
        ({"model": "/nowhere/model"}, 5, "there is no such model folder"),
        ({"eos_token": "<|stop|>"}, 2, "has no end token '<|stop|>'"),
        ({"tasks": ["humaneval"]}, 2, "there is no task 'humaneval'"),
        ({"benchmarks": "/nowhere/rows"}, 5, "there is no benchmark folder here"),
    ],
)
def test_bad_input_is_one_error_with_its_exit_code(
    config: dict[str, Any],
    code: int,
    said: str,
    tmp_path: Path,
    checkpoint: Callable[[str], Path],
) -> None:
    run = prepared(tmp_path / "run", **{"model": str(checkpoint("qwen2")), **config})
    result = finished(run)
    assert result.returncode == code, result.stderr
    assert said in result.stderr
    assert "Traceback" not in result.stderr


def test_prompts_longer_than_the_limit_are_counted_and_told_and_never_cut(
    tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    run = prepared(
        tmp_path / "run",
        model=str(checkpoint("qwen2")),
        max_length=90,
        tasks="mbpp,humanevalfixtests-java",
    )
    result = finished(run)
    assert result.returncode == 0, result.stderr
    notices = [
        event["text"]
        for event in map(json.loads, (run / "events.jsonl").read_text().splitlines())
        if event["event"] == "notice"
    ]
    assert any(text.startswith("2 prompts have 90 tokens or more") for text in notices)
    folder = run / "artifacts" / "generations_tiny"
    lines = (folder / "completions_humanevalfixtests-java_tiny.jsonl").read_text().splitlines()
    assert [json.loads(line)["finish"] for line in lines] == ["too_long", "too_long"]


def test_a_folder_is_never_continued_with_other_settings(
    tmp_path: Path, checkpoint: Callable[[str], Path]
) -> None:
    model = str(checkpoint("qwen2"))
    run = prepared(tmp_path / "run", model=model, max_length=60, tasks=["mbpp"])
    assert finished(run).returncode == 0
    prepared(run, model=model, max_length=61, tasks=["mbpp"])
    result = finished(run)
    assert result.returncode == 4
    assert "made with other settings are here already (max_length)" in result.stderr
