"""What a benchmark has to say of itself: the contract that the registry, prompts and cuts rely on.

A benchmark is one file that makes one ``Benchmark`` object; ``tasks.BENCHMARKS`` lists them. It is
separate from the registry so that a benchmark's file can import it without a cycle.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

Row = Mapping[str, Any]
"""One line of a benchmark file, as decoded JSON."""


@dataclass(frozen=True)
class Task:
    """One of the tasks that are scored: ``humanevalfixtests-go``, say.

    ``family`` is the kind of question (``humanevalsynthesize``, ``humanevalfixtests``, ``mbpp``);
    ``language`` is what the answers are written in.
    """

    name: str
    family: str
    language: str


@dataclass(frozen=True)
class StopRule:
    """When a completion is over, as a test of the text after the prompt.

    It holds when one of ``words`` occurs; or, with ``line_start``, when a non-empty line starts
    with neither space nor tab; or, with ``open_braces`` = k, when there are k more ``}`` than
    ``{``.
    """

    words: tuple[str, ...]
    line_start: bool = False
    open_braces: int | None = None

    @property
    def longest(self) -> int:
        """Characters of the longest stop word; 0 when there is none."""
        return max(map(len, self.words), default=0)


@dataclass(frozen=True)
class Parts:
    """What a prompt is made of, before a format puts markers around it.

    ``text`` is the whole question without the newline that is appended to it; ``ask`` is the part
    in front of the code to complete, and ``code`` that code, for formats that separate the two.
    ``code`` is empty where the question holds no code to complete.
    """

    text: str
    ask: str
    code: str


@dataclass(frozen=True)
class HubFile:
    """A file of a data set on the Hugging Face hub, at a commit."""

    dataset: str
    path: str
    revision: str


@dataclass(frozen=True)
class WebFile:
    """A file at an http address that names a fixed version of it."""

    url: str


class Benchmark(Protocol):
    """A benchmark: which tasks it has, where their rows are, and how they are asked and cut.

    ``scored`` says whether its tasks are among those of a submission; others are answered and
    judged when they are asked for by name.
    """

    name: str
    tasks: tuple[Task, ...]
    scored: bool

    def rows_files(self, task: Task) -> tuple[str, ...]:
        """Where the task's rows may be below a benchmark folder; the first is our own layout."""
        ...

    def origin(self, task: Task) -> HubFile | WebFile | None:
        """Where the task's rows can be fetched from; None where they come by hand only."""
        ...

    def questions(self, task: Task, count: int) -> range:
        """Which of the file's ``count`` rows are questions, by zero-based line."""
        ...

    def official_count(self, task: Task) -> int:
        """How many questions the competition's own copy has."""
        ...

    def fields(self, task: Task) -> Mapping[str, type]:
        """The fields that a row must have, and the JSON type of each."""
        ...

    def task_id(self, row: Row) -> str:
        """The name that the benchmark gives the question."""
        ...

    def parts(self, task: Task, row: Row) -> Parts:
        """The question's text."""
        ...

    def chat_by_reference(self, task: Task) -> bool:
        """Whether the reference puts chat markers around the prompt."""
        ...

    def stop_rule(self, task: Task, eos: Sequence[str]) -> StopRule:
        """When a completion is over; ``eos`` are the end tokens' texts."""
        ...

    def cuts_after_stop(self, task: Task) -> bool:
        """Whether text after the stop rule has held may change what is stored."""
        ...

    def stored(self, task: Task, row: Row, rest: str, rule: StopRule) -> str:
        """The generation to store, from what follows the prompt's text."""
        ...

    def ideal(self, task: Task, row: Row) -> str:
        """A completion that is stored as the prompt with the row's own solution."""
        ...
