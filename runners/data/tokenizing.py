"""One range of a file to ids, mask and lengths: the work of a cache builder's worker.

A compressed file is one range however large it is, so what a range comes to is given in pieces.
"""

from array import array
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from runners.data.chatml import ChatMLEncoder
from runners.data.decoding import LineDecoder
from runners.data.fast_bpe import FastRecipe, fast_encoder, lazy_encoder
from runners.data.records import get_format
from runners.data.sources import ByteRange, Reading, read_blocks
from runners.data.tokenizer import Markers
from runners.errors import JobFailedError

PIECE_BYTES = 1 << 20
"""Bytes of text in a piece: what a worker holds, and the consumer for each that runs ahead."""


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
    """Samples of a range that follow each other, end to end.

    ``ids`` int32 [tokens]; ``mask`` bool [tokens], true where a token is trained as a target;
    ``lengths`` int32 [samples]. ``lines`` were read, and ``read`` bytes on disk. ``error`` is set
    instead when a line is bad: its number among the lines, from 0, and what is wrong.
    """

    ids: npt.NDArray[np.int32]
    mask: npt.NDArray[np.bool_]
    lengths: npt.NDArray[np.int32]
    lines: int
    read: int
    error: tuple[int, str] | None = None


def worker(setup: TokenizeSetup) -> Callable[[TokenizeTask], Iterator[Tokenized]]:
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


def tokenize_range(task: TokenizeTask, encoder: ChatMLEncoder) -> Iterator[Tokenized]:
    """Encode every record of a range, some ``PIECE_BYTES`` of text at a time.

    Stops at the first bad line.
    """
    form = get_format(task.format)
    decoder = LineDecoder(form)
    reading = Reading()
    piece = _Piece()
    told = 0
    for block in read_blocks(task.part, reading=reading):
        decoded = decoder.decode(block)
        if decoded.bad:
            first = decoded.bad[0]
            fault = first.faults[0]
            text = f"{fault.where} {fault.message}".strip()
            yield _nothing(piece.lines + first.line, text)
            return
        for record in decoded.records:
            before = len(piece.ids)
            if form.is_text:
                encoder.encode_text(record.text, piece.ids, piece.spans)
            else:
                encoder.encode_chat(form.turns(record), piece.ids, piece.spans)
            piece.lengths.append(len(piece.ids) - before)
        piece.lines += decoded.line_count
        piece.text += len(block)
        if piece.text >= PIECE_BYTES:
            # The last line of a range may reach beyond it.
            done = min(reading.done, task.part.size)
            yield piece.finished(done - told)
            piece, told = _Piece(), done
    yield piece.finished(task.part.size - told)


class _Piece:
    """What has been encoded since the last piece was given away."""

    def __init__(self) -> None:
        self.ids = array("i")
        self.spans: list[tuple[int, int]] = []
        self.lengths = array("i")
        self.lines = 0
        self.text = 0

    def finished(self, read: int) -> Tokenized:
        mask = np.zeros(len(self.ids), bool)
        for start, stop in self.spans:
            mask[start:stop] = True
        ids, lengths = np.frombuffer(self.ids, np.int32), np.frombuffer(self.lengths, np.int32)
        return Tokenized(ids, mask, lengths, self.lines, read)


def _nothing(line: int, text: str) -> Tokenized:
    none = np.zeros(0, np.int32)
    return Tokenized(none, none.astype(bool), none, 0, 0, (line, text))
