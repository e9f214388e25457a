"""Which bytes of a file a replay can be expected to write again.

How long a thing took, when it was written and in which run's folder it lies differ between a run
and its replay without meaning anything. They are left out of what is hashed, and what was left out
is told with the result, so that "identical" is still said of nothing but identical bytes.
"""

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from functools import partial
from pathlib import Path
from typing import Any, Literal


@dataclass(frozen=True)
class Moved:
    """Where a replayed run writes what the original wrote elsewhere; both absolute."""

    old: Path
    new: Path


@dataclass(frozen=True)
class Likeness:
    """Two files held against each other.

    ``left_out`` names what was taken out of both before they were hashed; ``original`` and
    ``replay`` are the SHA-256 of what was hashed, "" for a file that is not there.
    """

    standing: Literal["identical", "differs", "missing"]
    original: str
    replay: str
    left_out: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Lines:
    """A JSONL file: the fields that are left out, and those that tell its lines' order."""

    pattern: str
    fields: tuple[str, ...]
    order: tuple[str, ...]


_LINES = (
    # Appended as they are made, so their order is that of finishing.
    _Lines("completions_*.jsonl", ("at", "seconds"), ("task", "index", "sample")),
    _Lines("verdicts_*.jsonl", ("memory", "seconds"), ("index", "sample")),
)


def held_against(old: Path, new: Path, moved: Sequence[Moved]) -> Likeness:
    """Compare a file of a run with the one that its replay wrote. Raises ``OSError``."""
    if not (old.is_file() and new.is_file()):
        return Likeness("missing", _digest(old), _digest(new))
    before, after = _digest(old), _digest(new)
    if before == after:
        return Likeness("identical", before, after)
    if lasting := _lasting(old.name, moved):
        read, left_out = lasting
        kept = _sha256(read(old))
        if kept == _sha256(read(new)):
            return Likeness("identical", kept, kept, left_out)
    return Likeness("differs", before, after)


def moved_to(path: Path, moved: Sequence[Moved]) -> Path:
    """Where the replay has what the original had at ``path``; ``path`` itself when nowhere else."""
    for place in moved:
        if path.is_relative_to(place.old):
            return place.new / path.relative_to(place.old)
    return path


def _lasting(
    name: str, moved: Sequence[Moved]
) -> tuple[Callable[[Path], bytes], tuple[str, ...]] | None:
    """How to read what should last of a file of that name, and what that leaves out."""
    for rule in _LINES:
        if fnmatchcase(name, rule.pattern):
            return partial(_lines_without, rule), rule.fields
    if name.endswith(".json"):
        return partial(_with_folders_mapped, moved), ("folders of the runs",)
    return None


def _lines_without(rule: _Lines, path: Path) -> bytes:
    try:
        rows = [json.loads(line) for line in path.read_bytes().splitlines()]
        rows.sort(key=lambda row: [row.get(key, 0) for key in rule.order])
        kept = [{k: v for k, v in row.items() if k not in rule.fields} for row in rows]
    except (ValueError, AttributeError, TypeError):
        return path.read_bytes()  # not what its name says: then every byte counts
    return json.dumps(kept).encode()


def _with_folders_mapped(moved: Sequence[Moved], path: Path) -> bytes:
    def mapped(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: mapped(item) for key, item in value.items()}
        if isinstance(value, list):
            return [mapped(item) for item in value]
        if isinstance(value, str) and value.startswith("/"):
            return str(moved_to(Path(value), moved))
        return value

    try:
        return json.dumps(mapped(json.loads(path.read_bytes()))).encode()
    except ValueError:
        return path.read_bytes()


def _digest(path: Path) -> str:
    if not path.is_file():
        return ""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()
