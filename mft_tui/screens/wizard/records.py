"""Lines of data files that a check has something to say of, read when a person wants to see them.

A file may be larger than the memory: it is read up to the line, and nothing of it is kept.
"""

import json
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from rich.text import Text

if TYPE_CHECKING:
    from runners.data.report import Validation

_SHOWN = 4000
"""Characters of a record at most: more than a screen has room for."""


class Place(NamedTuple):
    """A place in the data, what is to be said of it, and whether it is an error."""

    file: str
    line: int
    words: str
    wrong: bool = True

    def shown(self) -> Text:
        """One line for a list."""
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append("! " if self.wrong else "· ")
        if self.file:
            line.append(f"{Path(self.file).name}:{self.line}  ", "bold" if self.wrong else "")
        return line.append(self.words, "" if self.wrong else "dim")


def places(report: "Validation") -> list[Place]:
    """The errors of all tasks, then the first example of each kind of warning."""
    found = [
        Place(error.file, error.line, f"{error.where}: {error.message}".removeprefix(": "))
        for task in report.tasks
        for error in task.errors
    ]
    for task in report.tasks:
        for warned in task.warnings:
            words = f"{task.name}: {warned.kind.replace('_', ' ')}, {counted(warned.count, 'time')}"
            first = warned.examples[0] if warned.examples else None
            place = (first.file, first.line) if first else ("", 0)
            found.append(Place(*place, words, wrong=False))
    return found


def counted(count: int, word: str) -> str:
    """``1 problem``, ``2,000 problems``."""
    return f"{count:,} {word}{'s' * (count != 1)}"


def record_at(file: str, line: int) -> str:
    """The record of a line, indented where it is JSON; "" for what cannot be shown."""
    if not file.endswith(".jsonl"):
        return ""  # a compressed file cannot be read from the middle
    with Path(file).open("rb") as lines:
        raw = next(islice(lines, line - 1, line), b"").decode("utf-8", "replace").strip()
    try:
        return json.dumps(json.loads(raw), ensure_ascii=False, indent=1)[:_SHOWN]
    except ValueError:
        return raw[:_SHOWN]
