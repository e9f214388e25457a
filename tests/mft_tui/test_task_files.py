"""What a screen reads of a generation that is under way."""

from pathlib import Path

from mft_tui.widgets.task_files import GrowingJsonl, TaskFiles, TaskState, task_totals


def test_a_damaged_line_costs_only_itself(tmp_path: Path) -> None:
    path = tmp_path / "completions_mbpp_m.jsonl"
    path.write_bytes(b'{"index": 0}\n{"index": "\xff"}\n{"index\n{"index": 3}\n{"ind')
    assert GrowingJsonl(path).new_rows() == [{"index": 0}, {"index": 3}]


def test_without_a_benchmark_each_task_has_the_questions_that_its_benchmark_tells() -> None:
    totals = task_totals({"benchmarks": "/nowhere", "tasks": ["mbpp", "humanevalfixtests"]}, "")
    assert totals == {
        **{f"humanevalfixtests-{x}": 164 for x in ("python", "java", "js", "cpp", "go", "rust")},
        "mbpp": 500,
    }


def test_every_sample_of_a_question_counts(tmp_path: Path) -> None:
    (tmp_path / "generations_mbpp_m.json").write_text('[["a", "b"], ["c", "d"]]')
    config = {"benchmarks": "/nowhere", "tasks": ["mbpp"], "limit": 2, "num_samples": 2}
    assert task_totals(config, "generate") == {"mbpp": 4}
    assert task_totals({"generations": tmp_path, "tasks": ["mbpp"]}, "evaluate") == {"mbpp": 4}
    rows = tmp_path / "metrics_m" / "verdicts_mbpp_m.jsonl"
    rows.parent.mkdir()
    rows.write_text(
        '{"index": 0, "sample": 0, "passed": true}\n{"index": 0, "sample": 1, "passed": false}\n'
    )
    files = TaskFiles(tmp_path, "verdicts", {"mbpp": TaskState("mbpp", 4)})
    files.look()
    assert (files.tasks["mbpp"].done, files.tasks["mbpp"].passed) == (2, 1)
