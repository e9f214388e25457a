"""What a screen reads of a generation that is under way."""

from pathlib import Path

from mft_tui.widgets.task_files import GrowingJsonl, task_totals


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
