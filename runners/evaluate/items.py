"""What is to be judged: the stored generations of a model, joined with their questions."""

import hashlib
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from runners.benchmarks.family import Task
from runners.benchmarks.rows import Question, load_questions
from runners.benchmarks.tasks import TASKS, get_task
from runners.errors import MissingInputError, UsageError

_FOLDER = re.compile(r"generations_(?P<model>.+)")


@dataclass(frozen=True)
class Item:
    """One generation of one question."""

    question: Question
    sample: int
    text: str

    @property
    def key(self) -> tuple[int, int]:
        """Its place in the task: question, then sample."""
        return self.question.index, self.sample

    @property
    def digest(self) -> str:
        """Names the judged text, so that a verdict on another text is not taken for this one's."""
        return hashlib.sha256(self.text.encode("utf-8", "surrogatepass")).hexdigest()[:16]


@dataclass(frozen=True)
class TaskItems:
    """All that is to be judged of one task, in question order."""

    task: Task
    items: tuple[Item, ...]


def model_name(folder: Path) -> str:
    """The model in the folder's name ``generations_{model}``.

    Raises ``MissingInputError`` when there is no such folder, ``UsageError`` for another name.
    """
    if not folder.is_dir():
        raise MissingInputError(
            "there is no folder of generations here",
            where=str(folder),
            fix="Give the folder generations_{model} that mft-tui generate wrote.",
        )
    match = _FOLDER.fullmatch(folder.absolute().name)
    if match is None:
        raise UsageError(
            "the folder's name does not begin with generations_",
            where=str(folder),
            fix="Give the folder generations_{model}; the model's name is taken from it.",
        )
    return match["model"]


def generations_path(folder: Path, task: str) -> Path:
    """The file of a task's generations in ``folder``."""
    return folder / f"generations_{task}_{model_name(folder)}.json"


def tasks_present(folder: Path, asked: list[str]) -> list[str]:
    """The tasks to score: those asked for, else all that have a file; in the usual order.

    Raises ``MissingInputError`` when an asked one, or every one, has no file.
    """
    for task in asked:
        get_task(task)
        if not (path := generations_path(folder, task)).is_file():
            raise MissingInputError(
                f"there are no generations of {task}",
                where=str(path),
                fix="Generate them first, or leave the task out of --tasks.",
            )
    found = [
        t for t in TASKS if generations_path(folder, t).is_file() and (t in asked or not asked)
    ]
    if not found:
        raise MissingInputError(
            "the folder holds no generations of any of the 13 tasks",
            where=str(folder),
            fix=f"It should hold files like {generations_path(folder, TASKS[0]).name}.",
        )
    return found


def load_items(folder: Path, task: str, benchmarks: Path) -> TaskItems:
    """Join a task's generations with its questions.

    A file may hold fewer questions than the task has (a limited generation): those are the first
    ones. Raises ``UsageError`` when it is no list of lists of strings, or holds too many.
    """
    path = generations_path(folder, task)
    questions = load_questions(benchmarks, task)
    stored = _read(path)
    if len(stored) > len(questions):
        raise UsageError(
            f"there are {len(stored)} generations for the {len(questions)} questions of {task}",
            where=str(path),
            fix="Name the benchmark folder that they were generated from with --benchmarks.",
        )
    return TaskItems(get_task(task), tuple(_items(questions, stored)))


def _items(questions: list[Question], stored: list[list[str]]) -> Iterator[Item]:
    for question, samples in zip(questions, stored, strict=False):
        for sample, text in enumerate(samples):
            yield Item(question, sample, text)


def _read(path: Path) -> list[list[str]]:
    try:
        stored = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(
            f"this is not JSON ({error})", where=str(path), fix="Generate it again."
        ) from None
    if not isinstance(stored, list) or not all(
        isinstance(one, list) and one and all(isinstance(text, str) for text in one)
        for one in stored
    ):
        raise UsageError(
            "this is not a list with, for each question, a list of strings",
            where=str(path),
            fix="Generate it again.",
        )
    if not stored:
        raise UsageError("the list is empty", where=str(path), fix="Generate it again.")
    return stored
