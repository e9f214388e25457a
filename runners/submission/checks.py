"""What must hold of a submission: one check a rule, each with a sentence of detail.

The same rules are applied to a folder before it is packed and to a zip after, through a small view
of either. A wrong name or count is worth zero points, so nothing here repairs or guesses.
"""

import re
import zipfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import msgspec

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.fingerprints import compare
from runners.benchmarks.rows import load_questions
from runners.benchmarks.tasks import TASKS, benchmark_of, get_task
from runners.config.generate import checked_model_name
from runners.errors import MissingInputError, UsageError
from runners.submission.manifest import Manifest, read_manifest

_FOLDER = re.compile(r"generations_(?P<model>.+)")
_decoder = msgspec.json.Decoder()


@dataclass(frozen=True)
class Check:
    """A rule, whether it holds, and what was found."""

    name: str
    ok: bool
    detail: str


class Submission(Protocol):
    """Where the files of a submission are."""

    model_name: str

    def names(self) -> list[str]:
        """The names of all files, without the top folder."""
        ...

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        ...


class SubmissionFolder:
    """A folder ``generations_{model}``. Raises errors where it cannot be one."""

    def __init__(self, path: Path) -> None:
        if not path.is_dir():
            raise MissingInputError(
                "there is no such folder",
                where=str(path),
                fix="Name the folder generations_{model}, or the id of a generate run.",
            )
        self.path = path
        self.model_name = _model_name(path.name, str(path))

    def names(self) -> list[str]:
        """The names of all files."""
        return sorted(p.name for p in self.path.iterdir() if p.is_file())

    def read(self, name: str) -> bytes:
        """The bytes of a file."""
        return (self.path / name).read_bytes()


class SubmissionZip:
    """A zip with the one top folder ``generations_{model}``. Raises errors where it is none."""

    def __init__(self, path: Path) -> None:
        if not path.is_file():
            raise MissingInputError("there is no such zip", where=str(path))
        try:
            self._zip = zipfile.ZipFile(path)
        except zipfile.BadZipFile as error:
            raise UsageError(f"this is no zip ({error})", where=str(path)) from None
        entries = [name for name in self._zip.namelist() if not name.endswith("/")]
        tops = sorted({name.partition("/")[0] for name in entries})
        if len(tops) != 1 or any("/" not in name for name in entries):
            raise UsageError(
                f"a submission has one top folder, this zip has {', '.join(tops) or 'none'}",
                where=str(path),
                fix="Make it with `mft-tui export`.",
            )
        self.path = path
        self._top = tops[0]
        self._entries = entries
        self.model_name = _model_name(self._top, str(path))

    def names(self) -> list[str]:
        """The names of all files, below the top folder."""
        return sorted(name.partition("/")[2] for name in self._entries)

    def read(self, name: str) -> bytes:
        """The bytes of a file. Raises ``zipfile.BadZipFile`` where its checksum is wrong."""
        return self._zip.read(f"{self._top}/{name}")


def _model_name(folder: str, where: str) -> str:
    found = _FOLDER.fullmatch(folder)
    if found is None:
        raise UsageError(
            f"the folder is called {folder!r}, not generations_{{model}}",
            where=where,
            fix="Name the folder that generation wrote.",
        )
    try:
        return checked_model_name(found["model"])
    except ValueError as error:
        raise UsageError(str(error), where=where) from None


def task_file(task: str, model_name: str) -> str:
    """The name of a task's file in a submission."""
    return f"generations_{task}_{model_name}.json"


def check_folder(path: Path, benchmarks: Path | None = None) -> list[Check]:
    """All checks of a folder of generations.

    Counts are those of ``benchmarks``, else of the benchmark that the manifest names, else the
    competition's. Answers to another benchmark than the competition's or our own demo pass only
    where ``benchmarks`` is that one: their zip looks like a submission and would score nothing.
    Raises ``MissingInputError`` or ``UsageError`` where there is nothing to check.
    """
    folder = SubmissionFolder(path)
    manifest = read_manifest(path, folder.model_name)
    found = [] if manifest is None else list(_how_made(manifest, benchmarks))
    return found + _files(folder, _expected(folder, benchmarks, manifest))


def check_zip(path: Path, benchmarks: Path | None = None) -> list[Check]:
    """All checks of a zip; see ``check_folder``. A zip may hold nothing but the 13 files."""
    submission = SubmissionZip(path)
    wanted = {task_file(task, submission.model_name) for task in TASKS}
    strange = [name for name in submission.names() if name not in wanted]
    only = Check(
        "only the 13 files",
        not strange,
        f"not part of a submission: {', '.join(strange[:5])}" if strange else "nothing else",
    )
    return [only, *_files(submission, _expected(submission, benchmarks, None))]


def _how_made(manifest: Manifest, benchmarks: Path | None) -> Iterator[Check]:
    broken = "; ".join(manifest.breaks_rules)
    yield Check("greedy decoding", not broken, broken or "greedy, one generation a question")
    untrue = [
        f"{name} is {'a changed' if file.verdict == 'changed' else 'an incomplete'} copy"
        for name, file in manifest.benchmark.items()
        if file.verdict in {"changed", "partial"}
    ]
    if not _is_demo(manifest):
        named = {} if benchmarks is None else {r.name: r.sha256 for r in compare(benchmarks, TASKS)}
        untrue += [
            f"{name} is another benchmark than the competition's; name its folder with "
            "--benchmarks to pack the answers as they are"
            for name, file in manifest.benchmark.items()
            if file.verdict == "other" and named.get(name) != file.sha256
        ]
    official = all(file.verdict == "official" for file in manifest.benchmark.values())
    good = "the competition's" if official else "another benchmark than the competition's"
    yield Check("benchmark", not untrue, "; ".join(untrue) or good)


def _is_demo(manifest: Manifest) -> bool:
    demo = _demo_counts()
    return all(count.total == demo[task] for task, count in manifest.tasks.items() if task in demo)


def _demo_counts() -> dict[str, int]:
    return {task: len(load_questions(demo_benchmarks(), task)) for task in TASKS}


def _expected(
    submission: Submission, benchmarks: Path | None, manifest: Manifest | None
) -> dict[str, int]:
    official = {task: benchmark_of(task).official_count(get_task(task)) for task in TASKS}
    if benchmarks is not None:
        return {task: len(load_questions(benchmarks, task)) for task in TASKS}
    if manifest is not None:
        known = {task: count.total for task, count in manifest.tasks.items()}
        return {task: known.get(task, official[task]) for task in TASKS}
    demo = _demo_counts()
    # A zip does not say what it answers; our own demo is told by its counts.
    return demo if _counts(submission) == demo else official


def _counts(submission: Submission) -> dict[str, int]:
    counts = {}
    for task in TASKS:
        value = _decoded(submission, task_file(task, submission.model_name))
        counts[task] = len(value) if isinstance(value, list) else -1
    return counts


def _decoded(submission: Submission, name: str) -> object:
    """A file's value; an exception, as a value, where it cannot be read."""
    if name not in submission.names():
        return FileNotFoundError("the file is missing")
    try:
        return _decoder.decode(submission.read(name))
    except (msgspec.DecodeError, UnicodeDecodeError, zipfile.BadZipFile, OSError) as error:
        return error


def _files(submission: Submission, expected: Mapping[str, int]) -> list[Check]:
    checks = []
    for task in TASKS:
        name = task_file(task, submission.model_name)
        problem = _problem(_decoded(submission, name), expected[task])
        checks.append(Check(name, problem is None, problem or f"{expected[task]} questions"))
    return checks


def _problem(value: object, expected: int) -> str | None:
    if isinstance(value, FileNotFoundError):
        return "the file is missing"
    if isinstance(value, Exception):
        return f"not readable as JSON ({value})"
    if not isinstance(value, list):
        return "not a JSON list"
    if len(value) != expected:
        return f"{len(value)} questions instead of {expected}"
    for index, generations in enumerate(value):
        if not isinstance(generations, list) or not all(isinstance(g, str) for g in generations):
            return f"question {index} is not a list of strings"
        if len(generations) != 1:
            return f"question {index} has {len(generations)} generations instead of 1"
    return None
