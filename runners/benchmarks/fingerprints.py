"""Is this the competition's benchmark? Every file known by its SHA-256, every row by its digest.

Rows are compared by content, not by bytes, so another key order or layout of the same rows is still
the same benchmark. The digests ship with the project; the rows do not.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from difflib import SequenceMatcher
from functools import cache
from pathlib import Path
from typing import Any

import msgspec

from runners.benchmarks.rows import read_rows, rows_path
from runners.benchmarks.tasks import benchmark_of, get_task

_OFFICIAL = Path(__file__).parent / "official.json"
_DIGITS = 12


class OfficialFile(msgspec.Struct, frozen=True):
    """A file of the competition's copy: its SHA-256 and the digest of each row."""

    sha256: str
    rows: list[str]


@dataclass(frozen=True)
class FileReport:
    """A benchmark file compared with the competition's.

    ``changed`` are the rows (from 1) that the competition does not have at their place, and
    ``missing`` the competition's rows (from 1) that are not at theirs. ``known`` counts rows that
    are the competition's wherever they stand; it is None where no digests tell what is official.
    ``verdict`` is ``official`` (every row the competition's), ``changed`` (a copy of it with other
    rows in it, or in another order), ``partial`` (a copy that lacks rows), ``other`` (none of its
    rows is the competition's) or ``unknown`` (nobody has said what is official).
    """

    name: str
    path: Path
    sha256: str
    rows: int
    changed: tuple[int, ...] = ()
    missing: tuple[int, ...] = ()
    known: int | None = None

    @property
    def verdict(self) -> str:
        """How the file relates to the competition's."""
        if self.known is None:
            return "unknown"
        if self.rows and not self.known:
            return "other"
        if self.changed:
            return "changed"
        return "partial" if self.missing else "official"


def compare(folder: Path, tasks: Iterable[str]) -> list[FileReport]:
    """Compare the files that some tasks need with the competition's.

    Raises ``MissingInputError`` for a missing file and ``UsageError`` for a broken row.
    """
    reports: dict[Path, FileReport] = {}
    for task in tasks:
        path = rows_path(folder, task)
        if path not in reports:
            name = benchmark_of(task).rows_files(get_task(task))[0]
            reports[path] = _compare_file(name, path)
    return list(reports.values())


def _compare_file(name: str, path: Path) -> FileReport:
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    official = official_files().get(name)
    if official is None:
        return FileReport(name, path, sha256, len(read_rows(path)))
    if sha256 == official.sha256:
        return FileReport(name, path, sha256, len(official.rows), known=len(official.rows))
    digests = [row_digest(row) for row in read_rows(path)]
    changed, missing = _differences(official.rows, digests)
    known = len(set(digests) & set(official.rows))
    return FileReport(name, path, sha256, len(digests), changed, missing, known)


def _differences(
    official: Sequence[str], found: Sequence[str]
) -> tuple[tuple[int, ...], tuple[int, ...]]:
    """Rows of ``found`` that differ, and official rows that are missing, both counted from 1.

    The two are aligned first: a row that is left out shifts the others without changing them.
    """
    changed: list[int] = []
    missing: list[int] = []
    aligned = SequenceMatcher(None, official, found, autojunk=False).get_opcodes()
    for kind, start, end, at, until in aligned:
        if kind != "equal":
            changed += range(at + 1, until + 1)
            # A changed row stands for one of the competition's; what has no such row is missing.
            missing += range(start + until - at + 1, end + 1)
    return tuple(changed), tuple(missing)


def warnings(reports: Iterable[FileReport]) -> list[str]:
    """A sentence for each file that is a copy of the competition's, but not a true one."""
    said = []
    for report in reports:
        problems = []
        if report.changed:
            problems.append(
                f"rows {_listed(report.changed)} differ from the competition's {report.name}"
            )
        if report.missing:
            problems.append(
                f"rows {_listed(report.missing)} of the competition's {report.name} are missing"
            )
        if report.verdict in {"changed", "partial"}:
            said.append(f"{report.path}: {' and '.join(problems)}: scores will not be comparable")
    return said


def _listed(rows: Sequence[int]) -> str:
    more = f" and {len(rows) - 10} more" if len(rows) > 10 else ""
    return ", ".join(map(str, rows[:10])) + more


def row_digest(row: Mapping[str, Any]) -> str:
    """A digest of a row's content, the same for any order of its keys."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


@cache
def official_files() -> dict[str, OfficialFile]:
    """The competition's files by their name in a benchmark folder."""
    return msgspec.json.decode(_OFFICIAL.read_bytes(), type=dict[str, OfficialFile])
