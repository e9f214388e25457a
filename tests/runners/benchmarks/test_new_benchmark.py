"""A benchmark that nobody knows yet: one file and its line in the registry are enough."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path

import pytest

from runners.benchmarks import tasks
from runners.benchmarks.collection import fetch, fetchable, import_folder, present
from runners.benchmarks.family import Benchmark, Parts, Row, StopRule, Task, WebFile
from runners.config import GenerateConfig
from runners.generate.engine import Completion
from runners.generate.plan import make_plan


class Toy:
    """Complete a line."""

    name: str = "toy"
    tasks: tuple[Task, ...] = (Task("toy", "toy", "python"),)
    scored: bool = False

    def rows_files(self, task: Task) -> tuple[str, ...]:
        return ("toy.jsonl",)

    def origin(self, task: Task) -> WebFile:
        return WebFile("https://example.org/toy.jsonl")

    def questions(self, task: Task, count: int) -> range:
        return range(count)

    def official_count(self, task: Task) -> int:
        return 2

    def fields(self, task: Task) -> Mapping[str, type]:
        return {"line": str, "test": str}

    def task_id(self, row: Row) -> str:
        return f"Toy/{row['line']}"

    def parts(self, task: Task, row: Row) -> Parts:
        return Parts(text=row["line"], ask=row["line"], code="")

    def chat_by_reference(self, task: Task) -> bool:
        return False

    def stop_rule(self, task: Task, eos: Sequence[str]) -> StopRule:
        return StopRule(("\n", *eos))

    def cuts_after_stop(self, task: Task) -> bool:
        return False

    def stored(self, task: Task, row: Row, rest: str, rule: StopRule) -> str:
        return str(row["line"]) + rest.strip().partition("\n")[0]

    def ideal(self, task: Task, row: Row) -> str:
        return "\n"


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The toy's rows, with the toy registered."""
    toy: Benchmark = Toy()
    monkeypatch.setitem(tasks._BY_NAME, "toy", (toy, toy.tasks[0]))
    rows = [{"line": "a = ", "test": "assert a"}, {"line": "b = ", "test": "assert b"}]
    path = tmp_path / "benchmark" / "toy.jsonl"
    path.parent.mkdir()
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path.parent


def test_its_questions_are_asked_stopped_and_stored_by_its_own_rules(folder: Path) -> None:
    config = GenerateConfig(model="m", model_name="m", tasks=["toy"], benchmarks=folder)
    plan = make_plan(config)
    assert [request.text for request in plan.requests()] == ["a = \n", "b = \n"]
    done = {
        ("toy", index, 0): Completion(task="toy", index=index, completion=f"{index}\nmore")
        for index in range(2)
    }
    assert json.loads(plan.generations("toy", done, "<|im_end|>")) == [["a = 0"], ["b = 1"]]
    assert plan.manifest.benchmark["toy.jsonl"].verdict == "unknown"


def test_it_is_imported_and_listed_but_is_no_part_of_a_submission(folder: Path) -> None:
    import_folder(folder, folder / "kept", tasks=["toy"])
    assert [(report.name, report.verdict) for report in present(folder / "kept")] == [
        ("toy.jsonl", "unknown")
    ]
    assert "toy" in tasks.known_tasks()
    assert "toy" not in tasks.TASKS
    assert "toy" not in tasks.chosen_tasks([])


def test_its_rows_are_fetched_from_where_it_says(
    folder: Path, shared: Path, tmp_path: Path
) -> None:
    assert fetchable()["toy.jsonl"] == WebFile("https://example.org/toy.jsonl")

    def bring(name: str, place: Path) -> None:
        source = folder if name == "toy.jsonl" else shared / "benchmarks"
        place.write_bytes((source / name).read_bytes())

    reports = fetch(tmp_path / "kept", bring=bring)
    assert {report.name: report.verdict for report in reports}["toy.jsonl"] == "unknown"
    assert (tmp_path / "kept" / "toy.jsonl").is_file()
