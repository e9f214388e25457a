"""Kinds of odd programs: what models write when they go wrong, and what nobody should write.

A kind is a change of a right solution. Some change any text (``TEXT``); the others put a snippet of
the language in front of the solution, first into its body, or behind it (``snippets``). Every kind
is judged both ways, and the verdicts must agree.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

from tests.runners.evaluate.snippets import SNIPPETS
from tests.runners.evaluate.snippets.base import Snippet

Row = dict[str, Any]

COMMENT = {"python": "#"}
OPEN_COMMENT = {"python": '"""'}


@dataclass(frozen=True)
class Mutant:
    """A changed solution: its kind, and the text that stands where a generation would."""

    kind: str
    text: str


def solution(row: Row) -> str:
    """The right answer, as a generation holds it."""
    return str(row["prompt"] + row["canonical_solution"])


def _comment(language: str, text: str) -> str:
    return f"{COMMENT.get(language, '//')} {text}\n"


TEXT: dict[str, Callable[[str, Row], str]] = {
    "canonical": lambda _, row: solution(row),
    "buggy": lambda _, row: str(row["prompt"] + row["buggy_solution"]),
    "nothing": lambda _, row: "",
    "prompt alone": lambda _, row: str(row["prompt"]),
    "cut in the middle": lambda _, row: solution(row)[: -len(row["canonical_solution"]) // 2],
    "last brace missing": lambda _, row: solution(row).rstrip().removesuffix("}"),
    "twice": lambda _, row: solution(row) * 2,
    "carriage returns": lambda _, row: solution(row).replace("\n", "\r\n"),
    "byte order mark": lambda _, row: "\ufeff" + solution(row),
    "null character": lambda _, row: solution(row) + "\0\n",
    "lone surrogate": lambda language, row: solution(row) + _comment(language, "\udcff"),
    "prose in front": lambda _, row: "Here is the solution:\n" + solution(row),
    "code fence": lambda _, row: f"```\n{solution(row)}\n```\n",
    "comment left open": lambda language, row: solution(row) + OPEN_COMMENT.get(language, "/*"),
    "unicode comment": lambda language, row: _comment(language, "ж 漢 😀") + solution(row),
    "reversed writing": lambda language, row: _comment(language, "\u202e x") + solution(row),
    "long comment": lambda language, row: solution(row) + _comment(language, "x" * 200_000),
    "tabs for spaces": lambda _, row: solution(row).replace("    ", "\t"),
    "other name": lambda _, row: solution(row).replace(row["entry_point"], "otherName"),
    "form feed": lambda _, row: "\f\n" + solution(row),
    "comment goes on": lambda language, row: _comment(language, "x \\") + solution(row),
    "deep parentheses": lambda _, row: solution(row) + "(" * 3000 + ")" * 3000,
}


def mutants(language: str, row: Row) -> Iterator[Mutant]:
    """Every kind of a language, made of one row."""
    for kind, change in TEXT.items():
        yield Mutant(kind, change(language, row))
    for kind, snippet in SNIPPETS[language].items():
        yield Mutant(kind, placed(snippet, language, row))


def placed(snippet: Snippet, language: str, row: Row) -> str:
    """The right solution with a snippet in front of it, first in its body, or behind it."""
    head, body, tail = snippet.head, snippet.body, snippet.tail
    if language == "python":
        body = "".join(f"    {line}\n" for line in body.splitlines())
    head = f"{head}\n" if head else ""
    return f"{head}{row['prompt']}{body}\n{row['canonical_solution']}\n{tail}\n"
