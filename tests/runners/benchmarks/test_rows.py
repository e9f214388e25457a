"""Benchmark folders: their layouts, and what is said of broken ones."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.benchmarks.collection import fetch, fetchable, import_folder, present
from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.family import HubFile
from runners.benchmarks.fingerprints import compare, official_files, warnings
from runners.benchmarks.rows import load_questions, resolve_benchmarks
from runners.benchmarks.tasks import TASKS, chosen_tasks
from runners.errors import JobFailedError, MissingInputError, RefusedError, UsageError


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    folder = tmp_path / "benchmark"
    shutil.copytree(demo_benchmarks(), folder)
    return folder


def test_the_demo_has_two_questions_for_each_of_the_13_tasks() -> None:
    assert {task: len(load_questions(demo_benchmarks(), task)) for task in TASKS} == dict.fromkeys(
        TASKS, 2
    )
    assert len(TASKS) == 13


def test_the_references_layout_is_read_as_well(tmp_path: Path) -> None:
    for path in (demo_benchmarks() / "humanevalpack").glob("*.jsonl"):
        place = tmp_path / "humanevalpack" / "data" / path.stem / "data" / "humanevalpack.jsonl"
        place.parent.mkdir(parents=True)
        shutil.copyfile(path, place)
    (tmp_path / "mbpp").mkdir()
    shutil.copyfile(demo_benchmarks() / "mbpp.jsonl", tmp_path / "mbpp" / "mbpp.jsonl")
    for task in TASKS:
        assert load_questions(tmp_path, task) == load_questions(demo_benchmarks(), task)


def test_a_missing_file_is_named_with_the_task_that_needs_it(copy: Path) -> None:
    (copy / "humanevalpack" / "go.jsonl").unlink()
    with pytest.raises(MissingInputError, match=r"no humanevalpack/go\.jsonl.*fixtests-go"):
        load_questions(copy, "humanevalfixtests-go")


def test_a_row_that_was_cut_short_is_named_by_file_and_line(copy: Path) -> None:
    path = copy / "humanevalpack" / "rust.jsonl"
    path.write_bytes(path.read_bytes()[:-40])
    with pytest.raises(UsageError) as caught:
        load_questions(copy, "humanevalsynthesize-rust")
    assert caught.value.where == f"{path}:2"


def test_a_row_without_a_field_is_named_by_file_line_and_field(copy: Path) -> None:
    path = copy / "humanevalpack" / "js.jsonl"
    first, second = path.read_text().splitlines()
    row = json.loads(second)
    del row["buggy_solution"]
    path.write_text(f"{first}\n{json.dumps(row)}\n")
    with pytest.raises(UsageError, match="'buggy_solution' is missing") as caught:
        load_questions(copy, "humanevalfixtests-js")
    assert caught.value.where == f"{path}:2"


def test_bytes_that_are_no_text_are_named_by_file_and_line(copy: Path) -> None:
    path = copy / "humanevalpack" / "java.jsonl"
    path.write_bytes(path.read_bytes().replace(b"/1", b"/\xff", 1))
    with pytest.raises(UsageError, match="this row is not JSON") as caught:
        load_questions(copy, "humanevalsynthesize-java")
    assert caught.value.where == f"{path}:2"


def test_blank_lines_do_not_shift_the_line_that_is_named(copy: Path) -> None:
    path = copy / "humanevalpack" / "js.jsonl"
    first, second = path.read_text().splitlines()
    row = json.loads(second)
    del row["test"]
    path.write_text(f"\n{first}\n\n{json.dumps(row)}\n")
    with pytest.raises(UsageError, match="'test' is missing") as caught:
        load_questions(copy, "humanevalfixtests-js")
    assert caught.value.where == f"{path}:4"


def test_without_any_benchmark_the_commands_that_bring_one_are_told() -> None:
    with pytest.raises(MissingInputError, match="benchmarks fetch"):
        resolve_benchmarks(None)


def test_an_unknown_task_is_refused_with_the_tasks_there_are() -> None:
    with pytest.raises(UsageError, match="humanevalfixtests-rust"):
        chosen_tasks(["humaneval"])
    assert chosen_tasks(["mbpp", "humanevalfixtests"])[-1] == "mbpp"


def test_the_competitions_rows_are_known_by_content(shared: Path) -> None:
    assert {report.verdict for report in compare(shared / "benchmarks", TASKS)} == {"official"}
    for name, official in official_files().items():
        assert len(official.rows) == (974 if name == "mbpp.jsonl" else 164)


def test_a_changed_row_is_named(shared: Path, tmp_path: Path) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(shared / "benchmarks", folder)
    path = folder / "humanevalpack" / "python.jsonl"
    lines = path.read_text().splitlines()
    row = json.loads(lines[16])
    row["instruction"] += " "
    lines[16] = json.dumps(row)
    path.write_text("\n".join(lines) + "\n")
    said = warnings(compare(folder, TASKS))
    assert len(said) == 1
    assert "rows 17 differ" in said[0]
    with pytest.raises(RefusedError, match="rows 17 differ"):
        import_folder(folder)


@pytest.mark.parametrize(
    ("change", "verdict", "said"),
    [
        (lambda lines: lines[1:], "partial", "rows 1 of the competition's mbpp.jsonl are missing"),
        (lambda lines: lines[:100] + lines[102:], "partial", "rows 101, 102 of the"),
        (lambda lines: lines[:-3], "partial", "rows 972, 973, 974 of the"),
        (lambda _: [], "partial", "and 964 more of the"),
        (lambda lines: [*lines[:4], "{}", *lines[4:]], "changed", "rows 5 differ"),
        (lambda lines: [*lines, lines[0]], "changed", "rows 975 differ"),
        (lambda lines: [lines[-1], *lines[:-1]], "changed", "rows 1 differ"),
    ],
    ids=["first gone", "middle gone", "last gone", "empty", "one more", "twice", "another order"],
)
def test_a_copy_with_rows_left_out_put_in_or_moved_is_no_true_copy(
    change: Callable[[list[str]], list[str]],
    verdict: str,
    said: str,
    shared: Path,
    tmp_path: Path,
) -> None:
    folder = tmp_path / "changed"
    shutil.copytree(shared / "benchmarks", folder)
    path = folder / "mbpp.jsonl"
    path.write_text("".join(line + "\n" for line in change(path.read_text().splitlines())))
    (report,) = compare(folder, ["mbpp"])
    assert report.verdict == verdict
    assert said in warnings([report])[0]
    with pytest.raises(RefusedError, match="not a true copy"):
        import_folder(folder, tmp_path / "kept")
    assert not (tmp_path / "kept").exists()


def test_rows_in_another_layout_are_still_the_competitions(shared: Path, tmp_path: Path) -> None:
    shutil.copytree(shared / "benchmarks", tmp_path / "copy")
    path = tmp_path / "copy" / "mbpp.jsonl"
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    path.write_text("".join(json.dumps(row, sort_keys=True) + "\n\n" for row in rows))
    (report,) = compare(tmp_path / "copy", ["mbpp"])
    assert report.verdict == "official"


def test_another_benchmark_is_not_taken_for_the_competitions() -> None:
    assert {report.verdict for report in compare(demo_benchmarks(), TASKS)} == {"other"}
    with pytest.raises(RefusedError, match="none of its rows"):
        import_folder(demo_benchmarks())


def test_importing_makes_the_benchmark_the_default(shared: Path) -> None:
    import_folder(shared / "benchmarks")
    assert len(load_questions(resolve_benchmarks(None), "mbpp")) == 500
    assert len(present(resolve_benchmarks(None))) == 7


def test_fetching_checks_every_row_before_anything_is_kept(shared: Path, tmp_path: Path) -> None:
    asked: list[str] = []

    def bring(name: str, place: Path) -> None:
        asked.append(name)
        shutil.copyfile(shared / "benchmarks" / name, place)

    assert len(fetch(tmp_path / "kept", bring=bring)) == 7
    assert sorted(asked) == sorted(official_files())
    origin = fetchable()["humanevalpack/go.jsonl"]
    assert isinstance(origin, HubFile)
    assert origin.path == "data/go/data/humanevalpack.jsonl"

    def bring_changed(name: str, place: Path) -> None:
        bring(name, place)
        place.write_text(place.read_text().replace("sorted", "shuffled"))

    with pytest.raises(RefusedError, match="differ"):
        fetch(tmp_path / "other", bring=bring_changed)
    assert not (tmp_path / "other").exists()


def test_without_a_network_fetching_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(JobFailedError, match="benchmarks import DIR"):
        fetch(tmp_path, endpoint="http://127.0.0.1:9")
