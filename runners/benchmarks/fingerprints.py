"""Is this the competition's benchmark? Every file known by its SHA-256, every row by its digest.

Rows are compared by content, not by bytes, so another key order or layout of the same rows is still
the same benchmark. The digests ship with the project; the rows do not.
"""

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
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

    ``changed`` are the lines (from 1) whose rows differ, and ``missing`` the number of rows that
    are not there. ``verdict`` is ``official`` (every row the competition's), ``changed`` (a copy of
    it with other rows in it), ``partial`` (a beginning of it) or ``other`` (another benchmark).
    """

    name: str
    path: Path
    sha256: str
    rows: int
    changed: tuple[int, ...]
    missing: int

    @property
    def verdict(self) -> str:
        """How the file relates to the competition's."""
        if len(self.changed) == self.rows:
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
    official = official_files()[name].rows
    digests = [row_digest(row) for row in read_rows(path)]
    changed = [
        line
        for line, digest in enumerate(digests, start=1)
        if line > len(official) or digest != official[line - 1]
    ]
    return FileReport(
        name=name,
        path=path,
        sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
        rows=len(digests),
        changed=tuple(changed),
        missing=max(0, len(official) - len(digests)),
    )


def warnings(reports: Iterable[FileReport]) -> list[str]:
    """A sentence for each file that is a copy of the competition's, but not a true one."""
    said = []
    for report in reports:
        if report.verdict == "changed":
            lines = ", ".join(map(str, report.changed[:10]))
            more = f" and {len(report.changed) - 10} more" if len(report.changed) > 10 else ""
            said.append(
                f"{report.path}: rows {lines}{more} differ from the competition's {report.name}: "
                "scores will not be comparable"
            )
        elif report.verdict == "partial":
            said.append(
                f"{report.path}: the last {report.missing} rows of the competition's "
                f"{report.name} are missing: scores will not be comparable"
            )
    return said


def row_digest(row: Mapping[str, Any]) -> str:
    """A digest of a row's content, the same for any order of its keys."""
    text = json.dumps(row, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return hashlib.sha256(text.encode()).hexdigest()[:_DIGITS]


@cache
def official_files() -> dict[str, OfficialFile]:
    """The competition's files by their name in a benchmark folder."""
    return msgspec.json.decode(_OFFICIAL.read_bytes(), type=dict[str, OfficialFile])
