"""One range of a file to ids, mask and lengths: the work of a cache builder's worker."""

from array import array
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runners.data.chatml import ChatMLEncoder
from runners.data.decoding import LineDecoder
from runners.data.fast_bpe import FastRecipe, fast_encoder, lazy_encoder
from runners.data.records import get_format
from runners.data.sources import ByteRange, read_blocks
from runners.data.tokenizer import Markers
from runners.errors import JobFailedError


@dataclass(frozen=True)
class TokenizeSetup:
    """What all workers of a build share. ``recipe`` makes the fast encoder, if there is one."""

    tokenizer: Path
    markers: Markers
    system_prompt: str | None
    recipe: FastRecipe | None


@dataclass(frozen=True)
class TokenizeTask:
    """A range of a task's file, and the name of its format."""

    part: ByteRange
    format: str


@dataclass(frozen=True)
class Tokenized:
    """The samples of a range, end to end.

    ``ids`` int32 [tokens]; ``mask`` bool [tokens], true where a token is trained as a target;
    ``lengths`` int32 [samples]. ``lines`` is the number of lines read. ``error`` is set instead
    when a line is bad: its number in the range, from 0, and what is wrong.
    """

    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int32]
    lines: int
    error: tuple[int, str] | None = None


def worker(setup: TokenizeSetup) -> Callable[[TokenizeTask], Tokenized]:
    """Load the tokenizer once; the callable given back tokenizes a range."""
    encoder = worker_encoder(setup.tokenizer, setup.markers, setup.system_prompt, setup.recipe)
    return lambda task: tokenize_range(task, encoder)


def worker_encoder(
    tokenizer: Path, markers: Markers, system_prompt: str | None, recipe: FastRecipe | None
) -> ChatMLEncoder:
    """An encoder as the parent chose it; the ``recipe`` was compared there and found equal."""
    encode = lazy_encoder(tokenizer)
    if recipe is not None:
        quick = fast_encoder(recipe, encode)
        if quick is None:
            raise JobFailedError("the fast tokenizer path cannot be made", where=str(tokenizer))
        encode = quick
    return ChatMLEncoder(markers, system_prompt=system_prompt, encode=encode)


def tokenize_range(task: TokenizeTask, encoder: ChatMLEncoder) -> Tokenized:
    """Encode every record of a range; stops at the first bad line."""
    form = get_format(task.format)
    decoder = LineDecoder(form)
    ids = array("i")
    spans: list[tuple[int, int]] = []
    lengths = array("i")
    lines = 0
    for block in read_blocks(task.part):
        decoded = decoder.decode(block)
        if decoded.bad:
            first = decoded.bad[0]
            fault = first.faults[0]
            text = f"{fault.where} {fault.message}".strip()
            return _nothing(lines + first.line, text)
        for record in decoded.records:
            before = len(ids)
            if form.is_text:
                encoder.encode_text(record.text, ids, spans)
            else:
                encoder.encode_chat(form.turns(record), ids, spans)
            lengths.append(len(ids) - before)
        lines += decoded.line_count
    mask = np.zeros(len(ids), bool)
    for start, stop in spans:
        mask[start:stop] = True
    return Tokenized(np.frombuffer(ids, np.int32), mask, np.frombuffer(lengths, np.int32), lines)


def _nothing(line: int, text: str) -> Tokenized:
    none = np.zeros(0, np.int32)
    return Tokenized(none, none.astype(bool), none, 0, (line, text))
