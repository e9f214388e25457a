"""Task folders checked, all faults collected: what stands between bad data and a lost run.

Ranges of files go to worker processes and what they saw comes back in order; here it is put
together by task. Memory grows by some twenty bytes a record and by nothing else.
"""

import time
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runners.data.building import trusted_recipe
from runners.data.checking import (
    ERRORS_KEPT,
    EXAMPLES_KEPT,
    CheckSetup,
    CheckTask,
    PartReport,
)
from runners.data.duplicates import Repeats, find_duplicates
from runners.data.formats import recognize
from runners.data.leakage import LeakIndex, benchmark_texts, build_index
from runners.data.overlong import Overlong
from runners.data.packing import fill, pack_best_fit
from runners.data.records import FORMATS, Format
from runners.data.report import (
    BadPlace,
    Example,
    Percentiles,
    TaskReport,
    TokenizerNote,
    TokenReport,
    Validation,
    Warned,
)
from runners.data.sources import ByteRange, DataFile, TaskFolder, byte_ranges, find_tasks
from runners.data.tokenizer import ChatTokenizer, load_tokenizer
from runners.data.workers import available_cores, map_ordered

SMALL = 200 << 20
"""Bytes below which starting worker processes takes longer than parsing does."""

_SMALL_WITH_LEAKS = 1 << 23
_TEXT_PER_COMPRESSED_BYTE = 5

OnBytes = Callable[[int, int], None]
"""Called with bytes done and bytes in all, as they lie on disk."""


@dataclass(frozen=True)
class TokenQuestion:
    """What to find out about tokens: with which tokenizer, for which rows."""

    tokenizer: Path
    seq_length: int = 2048
    overlong: Overlong = "truncate"
    system_prompt: str | None = None


@dataclass
class _TaskSoFar:
    """What has been seen of a task; parts arrive in order."""

    folder: TaskFolder
    form: Format
    records: int = 0
    rounds: int = 0
    bytes: int = 0
    error_count: int = 0
    errors: list[BadPlace] = field(default_factory=list)
    warnings: dict[str, tuple[int, list[Example]]] = field(default_factory=dict)
    fences: Counter[str] = field(default_factory=Counter)
    parts: list["_Part"] = field(default_factory=list)


@dataclass(frozen=True)
class _Part:
    """Where a range's records lie, and their per-record arrays."""

    file: DataFile
    lines_before: int
    report: PartReport

    def place(self, record: int) -> tuple[str, int]:
        """File and line, from 1, of a record of this part."""
        lines = self.report.record_lines
        line = record if lines is None else int(lines[record])
        return str(self.file.path), self.lines_before + line + 1


def validate(
    paths: Sequence[Path],
    *,
    tokens: TokenQuestion | None = None,
    benchmarks: Path | None = None,
    workers: int | None = None,
    on_progress: OnBytes = lambda *_: None,
) -> Validation:
    """Check the task folders in ``paths``.

    ``benchmarks`` is a folder of benchmarks to look for leakage of; None leaves it unchecked.
    ``workers`` is one a core by default, and this process alone for little data.

    Raises ``MissingInputError`` when a folder, tokenizer or benchmark is not there. Faults in the
    data are in the report and raise nothing.
    """
    began = time.monotonic()
    folders = find_tasks(paths)
    tasks = [_TaskSoFar(folder, recognize(folder) or FORMATS[0]) for folder in folders]
    tokenizer = load_tokenizer(tokens.tokenizer) if tokens else None
    formats = {task.folder.name: task.form for task in tasks}
    recipe = trusted_recipe(tokenizer, folders, formats) if tokenizer else None
    leaks: LeakIndex | None = build_index(benchmark_texts(benchmarks)) if benchmarks else None
    setup = CheckSetup(
        tokenizer=tokenizer.path if tokenizer else None,
        markers=tokenizer.markers if tokenizer else None,
        recipe=recipe,
        system_prompt=tokens.system_prompt if tokens else None,
        seq_length=tokens.seq_length if tokens else 0,
        overlong=tokens.overlong if tokens else "truncate",
        leaks=leaks,
        special_texts=tokenizer.special_texts if tokenizer else (),
    )
    _read_all(tasks, setup, workers, on_progress)
    within, across = find_duplicates(
        [np.concatenate([_none(), *(p.report.hashes for p in task.parts)]) for task in tasks]
    )
    for task, repeats in zip(tasks, within, strict=True):
        if len(repeats):
            warned = _warned_of_repeats("duplicate", tasks, repeats)
            task.warnings[warned.kind] = (warned.count, warned.examples)
        _refuse_emptiness(task)
    reports = [_report(task, tokens) for task in tasks]
    errors = sum(report.error_count for report in reports)
    return Validation(
        ok=errors == 0,
        records=sum(report.records for report in reports),
        error_count=errors,
        tasks=reports,
        warning_count=sum(w.count for r in reports for w in r.warnings) + len(across),
        cross_task_duplicates=_warned_of_repeats("duplicate_across_tasks", tasks, across),
        leakage_checked=leaks is not None,
        seconds=time.monotonic() - began,
        tokenizer=_tokenizer_note(tokenizer, recipe is not None),
        pack_fill=_pack_fill(tasks, tokens) if tokens else None,
    )


def _none() -> npt.NDArray[np.int64]:
    return np.zeros(0, np.int64)


def _read_all(
    tasks: list[_TaskSoFar], setup: CheckSetup, workers: int | None, on_progress: OnBytes
) -> None:
    work: list[tuple[_TaskSoFar, ByteRange]] = [
        (task, part) for task in tasks for file in task.folder.files for part in byte_ranges(file)
    ]
    total = sum(part.size for _, part in work)
    if workers is None:
        workers = useful_workers([part for _, part in work], setup)
    todo = [CheckTask(part, task.form.name) for task, part in work]
    done = lines_before = errors_of_file = 0
    for i, seen in map_ordered("runners.data.checking:worker", setup, todo, workers):
        task, part = work[i]
        if part.start == 0:
            lines_before = errors_of_file = 0
        errors_here = len(seen.errors)
        _merge(task, _Part(part.file, lines_before, seen), errors_of_file)
        errors_of_file += errors_here
        lines_before += seen.lines
        done += part.size
        on_progress(done, total)


def useful_workers(parts: Sequence[ByteRange], setup: CheckSetup) -> int:
    """One a core, or one alone where that is done before others have started."""
    if setup.tokenizer is not None:
        return available_cores()
    text = sum(
        part.size * (1 if part.file.compression == "plain" else _TEXT_PER_COMPRESSED_BYTE)
        for part in parts
    )
    return available_cores() if text > (_SMALL_WITH_LEAKS if setup.leaks else SMALL) else 1


def _merge(task: _TaskSoFar, part: _Part, errors_of_file: int) -> None:
    seen = part.report
    path = str(part.file.path)
    task.records += len(seen.chars)
    task.rounds += seen.rounds
    task.bytes += seen.bytes
    task.error_count += seen.error_count
    room = max(0, ERRORS_KEPT - errors_of_file)
    task.errors += [
        BadPlace(path, part.lines_before + line + 1, fault.where, fault.message)
        for line, fault in seen.errors[:room]
    ]
    for kind, sightings in seen.warnings.items():
        count, examples = task.warnings.get(kind, (0, []))
        more = [Example(path, part.lines_before + ln + 1, text) for ln, text in sightings.examples]
        task.warnings[kind] = (count + sightings.count, [*examples, *more][:EXAMPLES_KEPT])
    task.fences.update(seen.fences)
    seen.errors, seen.warnings = [], {}
    task.parts.append(part)


def _place(tasks: list[_TaskSoFar], record: int) -> tuple[str, int]:
    """File and line of a record by its number through all tasks."""
    for part in (part for task in tasks for part in task.parts):
        if record < len(part.report.chars):
            return part.place(record)
        record -= len(part.report.chars)
    raise IndexError(record)


def _warned_of_repeats(kind: str, tasks: list[_TaskSoFar], repeats: Repeats) -> Warned:
    examples = []
    shown = slice(EXAMPLES_KEPT)
    for pair in zip(repeats.records[shown], repeats.firsts[shown], strict=True):
        (file, line), (first_file, first_line) = (_place(tasks, int(record)) for record in pair)
        origin = f"line {first_line}" if first_file == file else f"{first_file}:{first_line}"
        examples.append(Example(file, line, f"repeats {origin}"))
    return Warned(kind, len(repeats), examples)


def _refuse_emptiness(task: _TaskSoFar) -> None:
    """A file without a record is an error: somebody meant it to hold some."""
    for file in task.folder.files:
        parts = [part for part in task.parts if part.file == file]
        if any(len(part.report.chars) or part.report.error_count for part in parts):
            continue
        task.error_count += 1
        task.errors.append(BadPlace(str(file.path), 1, "", "the file holds no record"))


def _report(task: _TaskSoFar, tokens: TokenQuestion | None) -> TaskReport:
    return TaskReport(
        name=task.folder.name,
        path=str(task.folder.path),
        format=task.form.name,
        files=len(task.folder.files),
        records=task.records,
        rounds=task.rounds,
        bytes=task.bytes,
        error_count=task.error_count,
        errors=task.errors,
        warnings=[Warned(kind, n, examples) for kind, (n, examples) in task.warnings.items()],
        lengths=Percentiles.of(np.concatenate([_none(), *(p.report.chars for p in task.parts)])),
        fences=dict(task.fences.most_common()),
        tokens=_token_report(task, tokens) if tokens else None,
    )


def _arrays(task: _TaskSoFar) -> tuple[npt.NDArray[np.int64], ...]:
    """Tokens, trained tokens, and those still trained when it fits, of each record of a task."""
    reports = [part.report for part in task.parts]
    columns = (
        [r.tokens for r in reports],
        [r.trained for r in reports],
        [r.trained_fitting for r in reports],
    )
    return tuple(
        np.concatenate([_none(), *(c for c in column if c is not None)]) for column in columns
    )


def _fitted_lengths(task: _TaskSoFar) -> npt.NDArray[np.int32]:
    """Lengths of the samples that a run would train, under the overlong rule."""
    fitted = [part.report.fitted for part in task.parts if part.report.fitted is not None]
    return np.concatenate([np.zeros(0, np.int32), *fitted])


def _token_report(task: _TaskSoFar, tokens: TokenQuestion) -> TokenReport:
    lengths, trained, fitting = _arrays(task)
    longer = lengths > tokens.seq_length
    dropped = longer & (tokens.overlong == "drop")
    untrained = (fitting == 0) & ~dropped
    fitted = _fitted_lengths(task)
    rows = pack_best_fit(fitted, tokens.seq_length)
    touched = int((longer & ~untrained).sum())
    return TokenReport(
        tokens=int(lengths.sum()),
        trained_tokens=int(trained.sum()),
        lengths=Percentiles.of(lengths),
        seq_length=tokens.seq_length,
        longer=int(longer.sum()),
        truncated=touched if tokens.overlong == "truncate" else 0,
        dropped=int(dropped.sum()),
        split=touched if tokens.overlong == "split" else 0,
        untrained=int(untrained.sum()),
        pack_rows=len(rows),
        pack_fill=fill(rows, fitted, tokens.seq_length),
    )


def _pack_fill(tasks: list[_TaskSoFar], tokens: TokenQuestion) -> float:
    """The fill of packs over all tasks together, as a run packs them."""
    fitted = np.concatenate([_fitted_lengths(task) for task in tasks])
    return fill(pack_best_fit(fitted, tokens.seq_length), fitted, tokens.seq_length)


def _tokenizer_note(tokenizer: ChatTokenizer | None, fast: bool) -> TokenizerNote | None:
    if tokenizer is None:
        return None
    added = {token.text: token.id for token in tokenizer.added}
    return TokenizerNote(str(tokenizer.path), fast, added)
