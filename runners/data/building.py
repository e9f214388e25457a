"""Building a token cache: ranges of files to worker processes, their results to files, in order."""

from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from itertools import islice
from pathlib import Path

import msgspec
import numpy as np

from runners.data.decoding import LineDecoder
from runners.data.fast_bpe import FastRecipe, disagreement, fast_encoder, fast_recipe
from runners.data.formats import recognize
from runners.data.maskbits import MaskWriter
from runners.data.records import FORMATS, Format, Text
from runners.data.sources import ByteRange, DamagedFileError, TaskFolder, byte_ranges, read_blocks
from runners.data.token_cache import LAYOUT, CacheMeta
from runners.data.tokenizer import ChatTokenizer
from runners.data.tokenizing import Tokenized, TokenizeSetup, TokenizeTask
from runners.data.workers import map_ordered
from runners.errors import JobFailedError, MissingInputError

OnProgress = Callable[[str, int, int | None, str], None]
"""Called with (stage, done, total, unit), the fields of a ``progress`` event."""

RANGE_BYTES = 1 << 20
"""Bytes of JSONL that a worker tokenizes at a time."""

_COMPARED_BLOCKS = 2
_COMPARED_RECORDS = 24


def build(
    folder: Path,
    key: str,
    tasks: list[TaskFolder],
    tokenizer: ChatTokenizer,
    system_prompt: str | None,
    workers: int,
    on_progress: OnProgress,
) -> None:
    """Tokenize ``tasks`` into ``folder``. meta.json is written last."""
    formats = {task.name: recognize(task) or FORMATS[0] for task in tasks}
    recipe = trusted_recipe(tokenizer, tasks, formats)
    work = [
        (task_id, part)
        for task_id, task in enumerate(tasks)
        for file in task.files
        for part in byte_ranges(file, RANGE_BYTES)
    ]
    todo = [TokenizeTask(part, formats[tasks[task_id].name].name) for task_id, part in work]
    setup = TokenizeSetup(tokenizer.path, tokenizer.markers, system_prompt, recipe)
    total = sum(part.size for _, part in work)
    lengths: list[np.ndarray] = []
    trained: list[np.ndarray] = []
    task_ids: list[np.ndarray] = []
    files: list[tuple[str, int]] = []
    lines_before = done = samples = 0
    at = -1
    with (folder / "ids.bin").open("wb") as ids_file, MaskWriter(folder / "mask.bin") as mask_file:
        for i, result in map_ordered("runners.data.tokenizing:worker", setup, todo, workers):
            task_id, part = work[i]
            if part.start == 0 and i != at:
                lines_before = 0
                files.append((str(part.file.path), samples))
            at = i
            _raise_bad_line(result, part, lines_before)
            lines_before += result.lines
            ids_file.write(result.ids.tobytes())
            mask_file.append(result.mask)
            lengths.append(result.lengths)
            trained.append(_trained_counts(result))
            task_ids.append(np.full(len(result.lengths), task_id, np.int32))
            samples += len(result.lengths)
            done += result.read
            on_progress("tokenize", done, total, "bytes")
    _refuse_empty_tasks(tasks, np.concatenate(task_ids))
    all_lengths = np.concatenate(lengths)
    np.save(folder / "lengths.npy", all_lengths)
    np.save(folder / "trained_counts.npy", np.concatenate(trained))
    np.save(folder / "task_ids.npy", np.concatenate(task_ids))
    meta = CacheMeta(
        layout=LAYOUT,
        key=key,
        tasks=tuple(task.name for task in tasks),
        samples=len(all_lengths),
        tokens=int(all_lengths.sum(dtype=np.int64)),
        fast=recipe is not None,
        files=tuple(files),
    )
    (folder / "meta.json").write_bytes(msgspec.json.encode(meta))


def trusted_recipe(
    tokenizer: ChatTokenizer, tasks: list[TaskFolder], formats: dict[str, Format]
) -> FastRecipe | None:
    """The recipe of a fast encoder whose ids are right on a sample of the data, if there is one."""
    recipe = fast_recipe(tokenizer.path)
    fast = fast_encoder(recipe, tokenizer.encode) if recipe else None
    if fast is None:
        return None
    texts = [text for task in tasks for text in _sample_texts(task, formats[task.name])]
    return recipe if disagreement(tokenizer.encode, fast, texts) is None else None


def _sample_texts(task: TaskFolder, form: Format) -> Iterator[str]:
    """Texts from the head and from the middle of each file of a task."""
    for file in task.files[:16]:
        starts = [0, file.size // 2] if file.compression == "plain" else [0]
        for start in starts:
            part = ByteRange(file, start, file.size if start else None)
            # What lies before the damage is as good a sample; who reads the file tells of it.
            with suppress(DamagedFileError):
                yield from _texts_of(islice(read_blocks(part), _COMPARED_BLOCKS), form)


def _texts_of(blocks: Iterable[bytes], form: Format) -> Iterator[str]:
    for block in blocks:
        for record in LineDecoder(form).decode(block).records[:_COMPARED_RECORDS]:
            if isinstance(record, Text):
                yield record.text
            else:
                yield from (turn.content for turn in form.turns(record))


def _trained_counts(result: Tokenized) -> np.ndarray:
    ends = np.cumsum(result.lengths, dtype=np.int64)
    running = np.concatenate([[0], np.cumsum(result.mask, dtype=np.int64)])
    counts: np.ndarray = (running[ends] - running[ends - result.lengths]).astype(np.int32)
    return counts


def _raise_bad_line(result: Tokenized, part: ByteRange, lines_before: int) -> None:
    if result.error is not None:
        line, text = result.error
        raise JobFailedError(
            text,
            where=f"{part.file.path}:{lines_before + line + 1}",
            fix=f"Repair the line; `mft-tui validate {part.file.path.parent}` lists every bad one.",
        )


def _refuse_empty_tasks(tasks: list[TaskFolder], task_ids: np.ndarray) -> None:
    counts = np.bincount(task_ids, minlength=len(tasks))
    for task, count in zip(tasks, counts, strict=True):
        if count == 0:
            raise MissingInputError(
                "there is no record in this task's files",
                where=str(task.path),
                fix="Put records there, or leave the task out.",
            )
