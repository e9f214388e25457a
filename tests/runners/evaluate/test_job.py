"""The evaluation job as a program: folders in, verdicts, metrics and events out."""

import json
import random
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.runners.evaluate.conftest import NewRun, Rows, Run
from tests.runners.evaluate.test_sandbox import processes_with

PACK = ("python", "java", "js", "cpp", "go", "rust")


@pytest.mark.slow
def test_ten_canonical_solutions_of_every_language_pass_inside_the_sandbox(
    new_run: NewRun, rows: Rows
) -> None:
    generations = {
        f"humanevalsynthesize-{language}": [
            [row["prompt"] + row["canonical_solution"]] for row in rows(language)[:10]
        ]
        for language in PACK
    }
    generations["mbpp"] = [[row["code"]] for row in rows("mbpp")[:10]]
    run = new_run(generations)

    code, said = run.finish()

    assert code == 0, said
    skipped = [event["text"] for event in run.events if event["event"] == "notice"]
    for task, score in run.summary["tasks"].items():
        assert (task, score["passed"], score["total"]) == (task, 10, 10)
    assert len(run.summary["tasks"]) + len(skipped) == 7
    assert run.summary["average"] is None


@pytest.mark.slow
@pytest.mark.parametrize("way", ["fast", "plain"])
def test_solutions_of_every_language_pass_without_a_sandbox_too(
    new_run: NewRun, rows: Rows, way: str
) -> None:
    kinds = ("canonical_solution", "buggy_solution")
    run = new_run(
        {
            f"humanevalsynthesize-{language}": [
                [row["prompt"] + row[kind] for kind in kinds] for row in rows(language)[:1]
            ]
            for language in PACK
        },
        sandbox="none",
        i_understand=True,
        way=way,
    )

    code, said = run.finish()

    assert code == 0, said
    skipped = [event["text"] for event in run.events if event["event"] == "notice"]
    assert all("skipped: " in text and "could not be built" not in text for text in skipped)
    assert len(run.summary["tasks"]) + len(skipped) == len(PACK)
    assert {(s["passed"], s["total"]) for s in run.summary["tasks"].values()} == {(1, 2)}


def answers(rows: Rows, count: int) -> list[list[str]]:
    return [[row["prompt"] + row["canonical_solution"]] for row in rows("python")[:count]]


TASK = "humanevalsynthesize-python"


def test_a_killed_evaluation_goes_on_where_it_was(new_run: NewRun, rows: Rows) -> None:
    generations = answers(rows, 30)
    generations[3] = ["def broken(:"]
    run = new_run({TASK: generations}, way="plain")
    process = run.start()
    path = run.folder / "artifacts" / "metrics_tiny" / f"verdicts_{TASK}_tiny.jsonl"
    deadline = time.monotonic() + 120
    while not (path.exists() and path.read_bytes().count(b"\n") >= 3):
        assert time.monotonic() < deadline
        time.sleep(0.05)

    process.kill()
    process.communicate()
    before = path.read_bytes()
    code, said = run.finish()

    assert code == 0, said
    assert run.summary["tasks"][TASK]["passed"] == 29
    kept = [json.loads(line) for line in before.splitlines(keepends=True) if line.endswith(b"\n")]
    now = {verdict["index"]: verdict for verdict in run.verdicts(TASK)}
    assert len(kept) >= 3
    assert all(now[verdict["index"]] == verdict for verdict in kept)
    assert [verdict["index"] for verdict in run.verdicts(TASK)] == list(range(30))


def sleeper(mark: str) -> str:
    """A program that waits for a day in a process of its own, known by its command line."""
    return f"import ctypes\nctypes.CDLL(None).system(b'sleep 86400; echo {mark}')\n"


def until(holds: Callable[[], object], patience: float = 60.0) -> None:
    """Wait until something holds, or fail."""
    deadline = time.monotonic() + patience
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def cages_of(pid: int) -> list[str]:
    """Control groups that a process made and left."""
    name = f"mft-tui-{pid}-"
    found = Path("/sys/fs/cgroup").rglob(f"{name}*") if Path("/sys/fs/cgroup").is_dir() else ()
    return [str(path) for path in found]


@pytest.mark.parametrize("way", ["fast", "plain"])
def test_sigterm_ends_an_endless_program_at_once_and_leaves_nothing(
    new_run: NewRun, rows: Rows, way: str
) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    run = new_run({TASK: [[sleeper(mark)]]}, way=way)
    process = run.start()
    until(lambda: processes_with(f"echo {mark}"))

    asked = time.monotonic()
    process.terminate()
    said, _ = process.communicate(timeout=60)

    assert process.returncode == 130, said
    assert time.monotonic() - asked < 20
    assert not any(event["event"] == "finished" for event in run.events)
    assert processes_with(mark) == []
    assert cages_of(process.pid) == []


@pytest.mark.slow
@pytest.mark.timeout(600)
@pytest.mark.parametrize("way", ["fast", "plain"])
def test_an_evaluation_killed_at_random_moments_ends_with_the_same_scores_and_no_orphan(
    new_run: NewRun, rows: Rows, way: str
) -> None:
    mark = f"mark-{uuid.uuid4().hex}"
    generations = answers(rows, 16)
    generations[2] = ["def broken(:"]
    generations[5] = [rows("python")[5]["prompt"] + rows("python")[5]["buggy_solution"]]
    # It ends by itself, so that what is killed beside it is no time-out.
    generations[9] = [sleeper(mark).replace("86400", "1") + "assert False"]
    whole = new_run({TASK: generations}, name="whole", way=way)
    code, said = whole.finish()
    assert code == 0, said

    run = new_run({TASK: generations}, name="killed", way=way)
    draw = random.Random(7)
    for _ in range(6):
        process = run.start()
        try:
            process.wait(draw.uniform(0.2, 3.0))
            break
        except subprocess.TimeoutExpired:
            process.kill()
            process.communicate()
        until(lambda: processes_with(mark) == [], 10)
    killed = process.pid
    code, said = run.finish()

    assert code == 0, said
    assert len([event for event in run.events if event["event"] == "started"]) >= 3
    assert verdicts_without_time(run) == verdicts_without_time(whole)
    assert run.metrics(TASK)[TASK] == whole.metrics(TASK)[TASK]
    assert processes_with(mark) == []
    assert cages_of(killed) == []


def verdicts_without_time(run: Run) -> list[tuple[int, bool, str]]:
    return [(v["index"], v["passed"], v["status"]) for v in run.verdicts(TASK)]


def test_a_missing_toolchain_is_named_and_the_other_tasks_are_scored(
    new_run: NewRun, rows: Rows, tmp_path: Path
) -> None:
    tools = tmp_path / "bin"
    tools.mkdir()
    for name in ("bwrap", "sh"):
        (tools / name).symlink_to(shutil.which(name) or f"/usr/bin/{name}")
    run = new_run(
        {TASK: answers(rows, 2), "humanevalsynthesize-go": [["package main"]]},
    )

    code, said = run.finish(PATH=str(tools))

    assert code == 0, said
    assert list(run.summary["tasks"]) == [TASK]
    (notice,) = [event["text"] for event in run.events if event["event"] == "notice"]
    assert "humanevalsynthesize-go skipped" in notice
    assert "apt-get install -y golang-go" in notice


def test_more_generations_than_questions_is_an_error_with_its_file(
    new_run: NewRun, rows: Rows
) -> None:
    run = new_run({TASK: [["x"]] * 165})

    code, said = run.finish()

    assert code == 2
    assert "165 generations for the 164 questions" in said
    assert f"generations_{TASK}_tiny.json" in said


def test_a_task_that_was_not_generated_is_missing_input(new_run: NewRun, rows: Rows) -> None:
    run = new_run({TASK: answers(rows, 1)}, tasks=["mbpp"])

    code, said = run.finish()

    assert code == 5
    assert "no generations of mbpp" in said


def test_samples_give_pass_at_k_beside_pass_at_1(new_run: NewRun, rows: Rows) -> None:
    (right,) = answers(rows, 1)
    run = new_run({TASK: [[right[0], "raise ValueError"]]}, pass_k=[1, 2])

    code, said = run.finish()

    assert code == 0, said
    assert run.metrics(TASK)[TASK] == {"pass@1": 0.5, "pass@2": 1.0}
    assert [verdict["status"] for verdict in run.verdicts(TASK)] == ["passed", "runtime_error"]
