"""Benchmark rows from disk, checked before anything is generated or run.

A folder holds ``humanevalpack/{language}.jsonl`` and ``mbpp.jsonl``; the reference's own layout of
``local_benchmarks`` is read as well. A missing file, a broken line or a missing field is an error
with its place; whether rows are the competition's own is another question, which
``fingerprints`` answers.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from runners.benchmarks.family import Benchmark, Row, Task
from runners.benchmarks.tasks import benchmark_of, get_task
from runners.errors import MissingInputError, UsageError
from runners.lifecycle.folders import state_home

_json = msgspec.json.Decoder()


@dataclass(frozen=True)
class Question:
    """One question of a task: ``index`` counts the task's questions from 0, in file order."""

    task: str
    index: int
    task_id: str
    row: dict[str, Any]


def load_questions(folder: Path, task: str) -> list[Question]:
    """The questions of a task, in file order.

    Raises ``MissingInputError`` when the file is not there and ``UsageError`` (file:line) when a
    row is broken.
    """
    known, benchmark = get_task(task), benchmark_of(task)
    path = rows_path(folder, task)
    numbered = _numbered_rows(path)
    rows = [row for _, row in numbered]
    chosen = benchmark.questions(known, len(rows))
    if not chosen:
        raise UsageError(
            f"no questions for {task}: the file has {len(rows)} rows",
            where=str(path),
            fix="Take the benchmark's whole file.",
        )
    return [
        _question(known, benchmark, f"{path}:{numbered[row][0]}", index, rows[row])
        for index, row in enumerate(chosen)
    ]


def rows_path(folder: Path, task: str) -> Path:
    """The file of a task's rows in ``folder``. Raises ``MissingInputError`` when there is none."""
    names = benchmark_of(task).rows_files(get_task(task))
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise MissingInputError(
        f"the benchmark folder has no {names[0]}, which {task} needs",
        where=str(folder),
        fix="Name a folder with humanevalpack/*.jsonl and mbpp.jsonl, or choose other tasks.",
    )


def read_rows(path: Path) -> list[dict[str, Any]]:
    """All rows of a JSONL file. Raises ``UsageError`` (file:line) at one that is no JSON object."""
    return [row for _, row in _numbered_rows(path)]


def _numbered_rows(path: Path) -> list[tuple[int, dict[str, Any]]]:
    """The rows with their line numbers from 1, which blank lines shift."""
    rows: list[tuple[int, dict[str, Any]]] = []
    for number, line in enumerate(path.read_bytes().split(b"\n"), start=1):
        if not line.strip():
            continue
        try:
            row = _json.decode(line)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise UsageError(
                f"this row is not JSON ({error}): was the file cut short?",
                where=f"{path}:{number}",
                fix="Fetch the file again.",
            ) from None
        if not isinstance(row, dict):
            raise UsageError("this row is not a JSON object", where=f"{path}:{number}")
        rows.append((number, row))
    return rows


def _question(
    task: Task, benchmark: Benchmark, where: str, index: int, row: dict[str, Any]
) -> Question:
    for field, kind in benchmark.fields(task).items():
        if not isinstance(row.get(field), kind):
            problem = "is not of the right type" if field in row else "is missing"
            raise UsageError(
                f"the field {field!r} {problem}", where=where, fix="Fetch the file again."
            )
    if not _has_tests(row):
        raise UsageError("the row has no test", where=where, fix="Fetch the file again.")
    return Question(task.name, index, benchmark.task_id(row), row)


def _has_tests(row: Row) -> bool:
    tests = row.get("test_list", [row.get("test")])
    return bool(tests) and all(isinstance(test, str) and test for test in tests)


def imported_benchmarks() -> Path:
    """Where imported and fetched benchmarks are kept; it need not exist."""
    return state_home() / "benchmarks"


def resolve_benchmarks(path: Path | None) -> Path:
    """The benchmark folder to use: the one named, else the imported one.

    Raises ``MissingInputError`` when it is not there.
    """
    folder = path if path is not None else imported_benchmarks()
    if folder.is_dir():
        return folder
    if path is not None:
        raise MissingInputError(
            "there is no benchmark folder here",
            where=str(path),
            fix="Name a folder with humanevalpack/*.jsonl and mbpp.jsonl.",
        )
    raise MissingInputError(
        "no benchmark has been imported yet",
        where=str(folder),
        fix="Run `mft-tui benchmarks fetch`, or `mft-tui benchmarks import DIR`, "
        "or name a folder with --benchmarks.",
    )
