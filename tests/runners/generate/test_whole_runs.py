"""Whole runs of the job, beside one that nobody disturbed: killed, split, fed back, sampled."""

import json
import random
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.config import GenerateConfig
from runners.generate.engine import Pool, Request
from runners.lifecycle.command import job_command
from tests.runners.generate.test_job import (
    PROJECT,
    answered,
    command,
    environment,
    finished,
    prepared,
    task_files,
)

pytestmark = pytest.mark.slow

QUESTIONS = 2 * len(TASKS)


@pytest.fixture(scope="module")
def config(checkpoint: Callable[[str], Path]) -> dict[str, Any]:
    return {"model": str(checkpoint("qwen2")), "max_length": 420, "batch_size": 3, "use_cpu": True}


@pytest.fixture(scope="module")
def whole(config: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was not disturbed."""
    run = prepared(tmp_path_factory.mktemp("whole"), **config)
    result = finished(run)
    assert result.returncode == 0, result.stderr
    assert len(task_files(run)) == len(TASKS)
    assert len(set(answered(run))) == len(answered(run)) == QUESTIONS
    return run


def made(run: Path) -> Path:
    return run / "artifacts" / "generations_tiny"


def whole_lines(run: Path) -> int:
    return sum(path.read_bytes().count(b"\n") for path in made(run).glob("completions_*.jsonl"))


def loading(run: Path, chance: random.Random) -> None:
    """Until the job has begun, and a moment more: it imports, loads, tokenizes."""
    while not (run / "events.jsonl").exists():
        time.sleep(0.01)
    time.sleep(chance.uniform(0.0, 1.0))


def answering(run: Path, chance: random.Random) -> None:
    """Until a few more questions are answered."""
    wanted = whole_lines(run) + chance.randint(1, 5)
    while whole_lines(run) < wanted:
        time.sleep(0.005)


def writing(run: Path, chance: random.Random) -> None:
    """Until the first of the 13 files is there, or half of it."""
    while not any(made(run).glob("*generations_*.json*")):
        time.sleep(0.0005)
    time.sleep(chance.uniform(0.0, 0.005))


def tear_last_line(run: Path) -> None:
    """What a kill in the middle of a write leaves."""
    for path in list(made(run).glob("completions_*.jsonl"))[:1]:
        with path.open("ab") as file:
            file.write(b'{"task":"mbpp","ind')


def test_a_job_killed_three_times_ends_with_the_same_files(
    tmp_path: Path, config: dict[str, Any], whole: Path
) -> None:
    run = prepared(tmp_path / "killed", **config)
    seed = time.time_ns()
    print(f"killed at moments drawn with seed {seed}")
    chance = random.Random(seed)
    for moment in (loading, answering, writing):
        process = subprocess.Popen(
            command(run), env=environment(), cwd=PROJECT, stderr=subprocess.DEVNULL
        )
        moment(run, chance)
        assert process.poll() is None, f"the job was over before it could be killed {moment}"
        process.send_signal(signal.SIGKILL)
        assert process.wait() == -signal.SIGKILL
        tear_last_line(run)
    result = finished(run)
    assert result.returncode == 0, result.stderr
    assert task_files(run) == task_files(whole)
    assert sorted(answered(run)) == sorted(answered(whole))


@pytest.mark.parametrize("slow", ["0", "1", "neither"])
def test_two_ranks_answer_each_question_once_however_they_share_them(
    slow: str, tmp_path: Path, config: dict[str, Any], whole: Path
) -> None:
    run = prepared(tmp_path / "two", **config, num_processes=2)
    launch = job_command(GenerateConfig(**json.loads((run / "config.json").read_text())), run)
    at = launch.argv.index("runners.generate")
    argv = [*launch.argv[:at], "tests.runners.generate.ranked_job", slow, *launch.argv[at + 1 :]]
    result = subprocess.run(
        argv,
        capture_output=True,
        text=True,
        env={**environment(), **launch.env},
        cwd=PROJECT,
        timeout=500,
    )
    assert result.returncode == 0, result.stderr
    by_rank = [
        path.read_text().split() if (path := run / f"rank-{rank}.txt").exists() else []
        for rank in range(2)
    ]
    assert sorted(by_rank[0] + by_rank[1]) == sorted(f"{t}/{i}" for t, i in answered(whole))
    if slow != "neither":
        assert 0 < len(by_rank[int(slow)]) < QUESTIONS / 2
    assert sorted(answered(run)) == sorted(answered(whole))
    assert task_files(run) == task_files(whole)


@given(
    takes=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 9)), max_size=40),
    count=st.integers(0, 60),
)
def test_ranks_that_share_a_counter_share_the_pool_in_any_split(
    takes: list[tuple[int, int]], count: int
) -> None:
    position = 0

    def claim(number: int) -> int:
        nonlocal position
        position += number
        return position - number

    requests = [Request("mbpp", index, 0, "x" * (index % 7)) for index in range(count)]
    pools = [Pool(requests, claim) for _ in range(4)]
    taken = [request for rank, number in takes for request in pools[rank].take(number)]
    while rest := pools[0].take(5):
        taken += rest
    assert sorted(request.index for request in taken) == list(range(count))


def test_the_completions_of_a_run_fed_back_give_the_same_thirteen_files(
    tmp_path: Path, whole: Path
) -> None:
    lines = [
        line
        for path in made(whole).glob("completions_*.jsonl")
        for line in path.read_text().splitlines()
    ]
    random.Random(1).shuffle(lines)
    file = tmp_path / "elsewhere.jsonl"
    file.write_text("\n".join(lines))
    again = prepared(tmp_path / "again", engine="completions", completions=str(file))
    result = finished(again)
    assert result.returncode == 0, result.stderr
    assert len(task_files(again)) == len(TASKS)
    assert task_files(again) == task_files(whole)


def mft(*arguments: str | Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "mft_tui", *map(str, arguments)],
        capture_output=True,
        text=True,
        env=environment(),
        cwd=PROJECT,
        timeout=300,
    )


def test_samples_are_judged_by_pass_at_k_and_refused_as_a_submission(
    tmp_path: Path, config: dict[str, Any]
) -> None:
    sampling = {"do_sample": True, "num_samples": 3, "temperature": 1.0, "seed": 4}
    run = prepared(tmp_path / "run", **{**config, **sampling, "max_length": 230})
    result = finished(run)
    assert result.returncode == 0, result.stderr
    stored = json.loads(task_files(run)["generations_mbpp_tiny.json"])
    assert [len(generations) for generations in stored] == [3, 3]
    lines = (made(run) / "completions_mbpp_tiny.jsonl").read_text().splitlines()
    assert len({json.loads(line)["completion"] for line in lines}) == len(lines) == 6

    refused = mft("export", made(run), "--check")
    assert refused.returncode == 4
    assert "it was sampled" in refused.stderr
    assert "3 samples a question" in refused.stderr

    # One of the three is made right, so that pass@1 and pass@3 differ.
    row = json.loads((demo_benchmarks() / "mbpp.jsonl").read_text().splitlines()[10])
    stored[0][1] = row["code"]
    (made(run) / "generations_mbpp_tiny.json").write_text(json.dumps(stored))
    judged = mft(
        *("evaluate", made(run), "--tasks", "mbpp", "--benchmarks", demo_benchmarks()),
        *("--pass-k", "1,3", "--output", tmp_path / "out"),
    )
    assert judged.returncode == 0, judged.stderr
    (metrics,) = (tmp_path / "out").rglob("metrics_mbpp_tiny.json")
    scores = json.loads(metrics.read_text())["mbpp"]
    assert scores["pass@1"] == pytest.approx(1 / 6)
    assert scores["pass@3"] == pytest.approx(1 / 2)


def test_a_changed_row_is_told_by_generate_and_refused_by_export(
    tmp_path: Path, shared: Path
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(shared / "benchmarks", folder)
    path = folder / "humanevalpack" / "python.jsonl"
    lines = path.read_text().splitlines()
    row = json.loads(lines[16])
    row["instruction"] += " Be quick."
    lines[16] = json.dumps(row)
    path.write_text("\n".join(lines) + "\n")
    file = tmp_path / "made.jsonl"
    task = "humanevalsynthesize-python"
    answers = [{"task": task, "index": n, "completion": "    return 1\n"} for n in range(164)]
    file.write_text("\n".join(map(json.dumps, answers)))

    generated = mft(
        *("generate", "--engine", "completions", "--completions", file, "--model-name", "m"),
        *("--benchmarks", folder, "--output", tmp_path / "out"),
    )
    assert generated.returncode == 0, generated.stderr
    assert "rows 17 differ from the competition's humanevalpack/python.jsonl" in " ".join(
        generated.stderr.split()
    )
    refused = mft("export", tmp_path / "out" / "generations_m", "--check")
    assert refused.returncode == 4
    assert "benchmark: humanevalpack/python.jsonl is a changed copy" in refused.stderr
