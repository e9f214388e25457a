"""One record as the model sees it: its tokens, each with whether it is trained."""

from array import array
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec

from runners.data.chatml import ChatMLEncoder
from runners.data.diagnose import diagnose
from runners.data.formats import recognize
from runners.data.records import FORMATS, Format, Text
from runners.data.sources import ByteRange, TaskFolder, find_tasks, read_lines
from runners.data.tokenizer import AddedToken, ChatTokenizer, load_tokenizer
from runners.errors import JobFailedError, UsageError


@dataclass(frozen=True)
class Piece:
    """A run of tokens that are all trained or all not; ``text`` is what they decode to."""

    text: str
    trained: bool


@dataclass(frozen=True)
class Preview:
    """A record's ids and mask (true where a token is trained), and its text in runs."""

    task: str
    file: str
    line: int
    ids: list[int]
    mask: list[bool]
    pieces: list[Piece]
    added: tuple[AddedToken, ...]


def preview(
    folder: Path, tokenizer_path: Path, *, index: int = 0, system_prompt: str | None = None
) -> Preview:
    """The record number ``index`` (from 0, over all files of all tasks) of a data folder.

    Raises ``MissingInputError`` (no folder, no tokenizer), ``UsageError`` (no such record) and
    ``JobFailedError`` (that record is broken).
    """
    tasks = find_tasks([folder])
    tokenizer = load_tokenizer(tokenizer_path)
    task, file, line_number, line = _nth_line(tasks, index, folder)
    form = recognize(task) or FORMATS[0]
    if faults := diagnose(line.rstrip(b"\r\n"), form):
        raise JobFailedError(
            f"{faults[0].where} {faults[0].message}".strip(),
            where=f"{file}:{line_number}",
            fix=f"Repair the line; `mft-tui validate {task.path}` lists every bad one.",
        )
    record = msgspec.json.decode(line, type=form.record)
    ids, mask = encode_record(record, form, tokenizer, system_prompt)
    pieces = _pieces(ids, mask, tokenizer)
    return Preview(task.name, str(file), line_number, ids, mask, pieces, tokenizer.added)


def encode_record(
    record: Any, form: Format, tokenizer: ChatTokenizer, system_prompt: str | None = None
) -> tuple[list[int], list[bool]]:
    """A decoded record's ids and loss mask."""
    encoder = ChatMLEncoder(tokenizer, system_prompt=system_prompt)
    ids = array("i")
    spans: list[tuple[int, int]] = []
    if isinstance(record, Text):
        encoder.encode_text(record.text, ids, spans)
    else:
        encoder.encode_chat(form.turns(record), ids, spans)
    mask = [False] * len(ids)
    for start, stop in spans:
        mask[start:stop] = [True] * (stop - start)
    return ids.tolist(), mask


def _nth_line(
    tasks: list[TaskFolder], index: int, folder: Path
) -> tuple[TaskFolder, Path, int, bytes]:
    left = index
    for task in tasks:
        for file in task.files:
            for number, line in enumerate(read_lines(ByteRange(file)), 1):
                if not line.strip():
                    continue
                if left == 0:
                    return task, file.path, number, line
                left -= 1
    raise UsageError(
        f"there is no record {index}: the data has {index - left}",
        where=str(folder),
        fix="Records count from 0.",
    )


def _pieces(ids: list[int], mask: list[bool], tokenizer: ChatTokenizer) -> list[Piece]:
    pieces = []
    start = 0
    for i in range(1, len(ids) + 1):
        if i == len(ids) or mask[i] != mask[start]:
            pieces.append(Piece(tokenizer.decode(ids[start:i]), mask[start]))
            start = i
    return pieces
