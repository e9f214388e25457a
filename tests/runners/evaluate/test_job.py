"""The evaluation job as a program: folders in, verdicts, metrics and events out."""

import json
import shutil
import time
from pathlib import Path

import pytest

from tests.runners.evaluate.conftest import NewRun, Rows

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


def test_sigterm_ends_an_endless_program_at_once_and_leaves_nothing(
    new_run: NewRun, rows: Rows
) -> None:
    run = new_run({TASK: [["import time\ntime.sleep(86423)\n"]]})
    process = run.start()
    deadline = time.monotonic() + 60
    while '"started"' not in (
        (run.folder / "events.jsonl").read_text() if (run.folder / "events.jsonl").exists() else ""
    ):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    time.sleep(2)

    process.terminate()
    said, _ = process.communicate(timeout=60)

    assert process.returncode == 130, said
    assert not any(event["event"] == "finished" for event in run.events)
    groups = Path("/sys/fs/cgroup/memory")
    assert list(groups.glob(f"mft-tui-{process.pid}-*")) == []


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
