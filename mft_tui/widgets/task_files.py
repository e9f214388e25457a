"""How far generation and evaluation are, read from the files they append to.

The database keeps one progress line a run; the thirteen rows of a screen need one a task. A task's
completions and verdicts are JSONL files that only grow, so each look reads what is new. Used in a
lane; knows no widget.
"""

import contextlib
import os
from collections import deque
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

_READ = 8 * 1024 * 1024
_SHOWN = 20


@dataclass
class GrowingJsonl:
    """The whole lines of a file that is appended to, each given once.

    A file that was put in the place of the old one (an evaluation sorts its verdicts at the end)
    is read from its beginning: its lines are given again.
    """

    path: Path
    offset: int = 0
    inode: int = 0

    def new_rows(self) -> list[dict[str, Any]]:
        """Rows since the last look (of at most 8 MiB); lines that are no object are skipped."""
        try:
            with self.path.open("rb") as file:
                if (inode := os.fstat(file.fileno()).st_ino) != self.inode:
                    self.inode, self.offset = inode, 0
                file.seek(self.offset)
                data = file.read(_READ)
        except FileNotFoundError:
            return []
        whole = data[: data.rfind(b"\n") + 1]
        self.offset += len(whole)
        rows = []
        for line in whole.splitlines():
            try:
                row = msgspec.json.decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError):
                continue
            if isinstance(row, dict):
                rows.append(row)
        return rows


@dataclass
class TaskState:
    """One task: answers done of how many (every sample is one); how many of them passed."""

    task: str
    total: int
    done: int = 0
    passed: int = 0

    @property
    def pass_at_1(self) -> float | None:
        """Share of the judged answers that passed; None before the first."""
        return self.passed / self.done if self.done else None


@dataclass(frozen=True)
class Sighting:
    """A completion or verdict that has just come; ``status`` says how it ended."""

    task: str
    index: int
    text: str
    status: str = ""


@dataclass
class TaskFiles:
    """Follows ``{prefix}_{task}_{model}.jsonl`` of each task in a folder's folders."""

    folder: Path
    prefix: str
    tasks: dict[str, TaskState] = field(default_factory=dict)
    model: str = "*"
    recent: deque[Sighting] = field(default_factory=lambda: deque(maxlen=_SHOWN))
    _files: dict[str, GrowingJsonl] = field(default_factory=dict)
    _seen: dict[str, set[tuple[int, int]]] = field(default_factory=dict)

    def look(self) -> bool:
        """Read what is new; whether there was anything."""
        self._find()
        changed = False
        for task, file in self._files.items():
            rows = file.new_rows()
            state, seen = self.tasks[task], self._seen[task]
            for row in rows:
                index = int(row.get("index", -1))
                answer = (index, int(row.get("sample", 0)))
                if answer in seen:
                    continue
                seen.add(answer)
                state.done += 1
                state.passed += bool(row.get("passed"))
                text = str(row.get("completion", row.get("text", row.get("detail", ""))))
                status = row.get("status") or row.get("stop") or row.get("finish") or ""
                self.recent.append(Sighting(task, index, text, str(status)))
            changed = changed or bool(rows)
        return changed

    def _find(self) -> None:
        for task in self.tasks:
            if task not in self._files:
                found = next(
                    iter(self.folder.glob(f"*/{self.prefix}_{task}_{self.model}.jsonl")), None
                )
                if found is not None:
                    self._files[task] = GrowingJsonl(found)
                    self._seen[task] = set()


def task_totals(config: dict[str, Any], kind: str) -> dict[str, int]:
    """The tasks of a generate or evaluate config, each with its number of answers.

    From the benchmark when it is there, the competition's counts otherwise. Raises nothing that a
    missing or broken benchmark can cause: a screen of progress must not fail for it.
    """
    from runners.benchmarks.rows import load_questions, resolve_benchmarks
    from runners.benchmarks.tasks import TASKS, benchmark_of, chosen_tasks, get_task
    from runners.errors import MftError

    named: tuple[str, ...] = TASKS
    with contextlib.suppress(MftError):
        named = chosen_tasks([str(task) for task in config.get("tasks") or []])
    try:
        folder = resolve_benchmarks(
            Path(config["benchmarks"]) if config.get("benchmarks") else None
        )
    except MftError:
        folder = None
    limit = config.get("limit") or None
    totals = {}
    for task in named:
        count = benchmark_of(task).official_count(get_task(task))
        if folder is not None:
            with contextlib.suppress(MftError):
                count = len(load_questions(folder, task))
        count = min(count, int(limit)) if limit else count
        totals[task] = count * int(config.get("num_samples") or 1)
    if kind == "evaluate" and config.get("generations"):
        totals = _generated(Path(str(config["generations"])), totals)
    return totals


def _generated(folder: Path, totals: dict[str, int]) -> dict[str, int]:
    """Only the tasks that have generations, each with as many answers as there are."""
    counts = {}
    for task in totals:
        path = next(iter(folder.glob(f"generations_{task}_*.json")), None)
        if path is None:
            continue
        try:
            counts[task] = sum(map(len, msgspec.json.decode(path.read_bytes())))
        except (msgspec.DecodeError, TypeError):
            counts[task] = totals[task]
    return counts or totals
