"""One range of a file looked through: the work of a validation worker.

What costs little (structure, lengths, hashes) is done for every record. What costs more is done
only where a single character has given it away, so clean data passes at about the speed of parsing.
"""

import re
from array import array
from bisect import bisect_right
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import lru_cache
from itertools import accumulate
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from runners.data.chatml import ChatMLEncoder
from runners.data.decoding import SEPARATOR, Decoded, LineDecoder
from runners.data.diagnose import Fault
from runners.data.fast_bpe import FastRecipe
from runners.data.fences import find_fences
from runners.data.heap import keep_freed_memory
from runners.data.leakage import LeakIndex
from runners.data.overlong import Overlong, fitting_pieces
from runners.data.records import FORMATS, Format, Text, get_format
from runners.data.sources import ByteRange, DamagedFileError, read_blocks
from runners.data.tokenizer import Markers
from runners.data.tokenizing import worker_encoder

ERRORS_KEPT = 100
"""Errors of a file that are shown; all of them are counted."""

EXAMPLES_KEPT = 5
"""Places shown for a kind of warning."""

_SPECIAL_TEXT = r"<\|[A-Za-z0-9_:-]{1,64}\|>"
_find_fence = re.compile("```").search
# A regular expression of one word is found three times as fast as by the operator "in".


@dataclass(frozen=True)
class CheckSetup:
    """What all workers of a validation share.

    ``tokenizer`` None leaves tokens uncounted; ``leaks`` None leaves leakage unchecked.
    ``special_texts`` are the tokenizer's special tokens.
    """

    tokenizer: Path | None
    markers: Markers | None
    recipe: FastRecipe | None
    system_prompt: str | None
    seq_length: int
    overlong: Overlong
    leaks: LeakIndex | None
    special_texts: tuple[str, ...] = ()


@dataclass(frozen=True)
class CheckTask:
    """A range of a task's file, and the name of its format."""

    part: ByteRange
    format: str


@dataclass
class Sightings:
    """How often something was seen, and at which lines first (of the range, from 0)."""

    count: int = 0
    examples: list[tuple[int, str]] = field(default_factory=list)

    def add(self, line: int, text: str) -> None:
        """Count one more."""
        self.count += 1
        if len(self.examples) < EXAMPLES_KEPT:
            self.examples.append((line, text))


@dataclass
class PartReport:
    """What a range holds. Lines count from 0 in the range.

    For each good record: ``chars`` int32 characters of content, ``hashes`` int64 of its content,
    ``tokens`` int32 and ``trained`` int32 with a tokenizer, and ``trained_fitting``, those that are
    still trained under the overlong rule. ``fitted`` int32 are the lengths of the samples that a
    run would train. ``record_lines`` int32 is None when record i stands on line i.
    """

    lines: int = 0
    rounds: int = 0
    bytes: int = 0
    error_count: int = 0
    errors: list[tuple[int, Fault]] = field(default_factory=list)
    warnings: dict[str, Sightings] = field(default_factory=dict)
    fences: Counter[str] = field(default_factory=Counter)
    chars: npt.NDArray[np.int32] = field(default_factory=lambda: np.zeros(0, np.int32))
    hashes: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    record_lines: npt.NDArray[np.int32] | None = None
    tokens: npt.NDArray[np.int32] | None = None
    trained: npt.NDArray[np.int32] | None = None
    trained_fitting: npt.NDArray[np.int32] | None = None
    fitted: npt.NDArray[np.int32] | None = None

    def warn(self, kind: str, line: int, text: str) -> None:
        """Note a warning of a kind."""
        self.warnings.setdefault(kind, Sightings()).add(line, text)


def worker(setup: CheckSetup) -> Callable[[CheckTask], list[PartReport]]:
    """Load what is shared once; the callable given back checks a range."""
    keep_freed_memory()
    encoder = None
    if setup.tokenizer is not None and setup.markers is not None:
        encoder = worker_encoder(setup.tokenizer, setup.markers, setup.system_prompt, setup.recipe)
    decoders = {form.name: LineDecoder(form) for form in FORMATS}
    return lambda task: [_RangeCheck(task, setup, encoder, decoders[task.format]).run()]


class _RangeCheck:
    """The state of one range's check; used once."""

    def __init__(
        self,
        task: CheckTask,
        setup: CheckSetup,
        encoder: ChatMLEncoder | None,
        decoder: LineDecoder,
    ) -> None:
        self._part = task.part
        self._decoder = decoder
        self._form: Format = get_format(task.format)
        self._leaks = setup.leaks
        self._special_text, self._sign = _special_text(setup.special_texts)
        self._seq_length = setup.seq_length
        self._overlong = setup.overlong
        self._encoder = encoder
        self._report = PartReport()
        self._chars: list[npt.NDArray[np.int32]] = [np.zeros(0, np.int32)]
        self._hashes: list[npt.NDArray[np.int64]] = [np.zeros(0, np.int64)]
        self._blocks: list[tuple[int, int, Sequence[int] | None]] = []
        self._tokens = array("i")
        self._trained = array("i")
        self._fitting = array("i")
        self._fitted = array("i")

    def run(self) -> PartReport:
        report = self._report
        try:
            self._read()
        except DamagedFileError as damage:
            report.error_count += 1
            # However many errors are before it, it is shown: no line after it was looked at.
            del report.errors[ERRORS_KEPT - 1 :]
            report.errors.append((report.lines, Fault("", f"{damage.what}; the rest is unread")))
        report.chars = np.concatenate(self._chars)
        report.hashes = np.concatenate(self._hashes)
        report.record_lines = self._record_lines()
        if self._encoder is not None:
            report.tokens = np.array(self._tokens, np.int32)
            report.trained = np.array(self._trained, np.int32)
            report.trained_fitting = np.array(self._fitting, np.int32)
            report.fitted = np.array(self._fitted, np.int32)
        return report

    def _read(self) -> None:
        report = self._report
        for block in read_blocks(self._part):
            decoded = self._decoder.decode(block)
            self._note_errors(decoded)
            self._measure(decoded)
            self._look_for_oddities(decoded)
            if self._leaks is not None:
                self._look_for_leaks(self._leaks, decoded)
            if self._encoder is not None:
                self._count_tokens(self._encoder, decoded)
            report.bytes += len(block)
            report.lines += decoded.line_count

    def _note_errors(self, decoded: Decoded) -> None:
        for bad in decoded.bad:
            self._report.error_count += len(bad.faults)
            room = ERRORS_KEPT - len(self._report.errors)
            line = self._report.lines + bad.line
            self._report.errors += [(line, fault) for fault in bad.faults[:room]]
        self._blocks.append((self._report.lines, len(decoded.records), decoded.lines))

    def _record_lines(self) -> npt.NDArray[np.int32] | None:
        """The line of each record in the range; None if record i stands on line i."""
        if all(lines is None for _, _, lines in self._blocks):
            return None
        numbers = [
            np.array(range(count) if lines is None else lines, np.int32) + np.int32(before)
            for before, count, lines in self._blocks
        ]
        return np.concatenate(numbers)

    def _measure(self, decoded: Decoded) -> None:
        texts, columns = decoded.texts, decoded.columns
        turns = decoded.period or np.array(columns.counts, np.int32)
        lengths = np.array(list(map(len, texts)), np.int32)
        self._chars.append(lengths - (turns - 1) * len(SEPARATOR))
        self._report.rounds += len(columns.contents)
        # Content alone: two records that differ in their id only are duplicates.
        self._hashes.append(np.fromiter(map(hash, texts), np.int64, len(texts)))
        answers = decoded.answers(self._form.answer)
        if not all(answers) or any(map(str.isspace, answers)):
            self._note_empty_answers(decoded)

    def _note_empty_answers(self, decoded: Decoded) -> None:
        counts, roles, _, contents = decoded.columns
        ends = list(accumulate(counts))
        for i, content in enumerate(contents):
            if roles[i] == self._form.answer and not content.strip():
                line = self._report.lines + decoded.line_of(bisect_right(ends, i))
                self._report.warn("empty_answer", line, "an answer is empty")

    def _look_for_oddities(self, decoded: Decoded) -> None:
        # One character is found at memory speed, a longer sign is not: so first the character.
        sign = self._sign
        for i in [i for i, text in enumerate(decoded.texts) if sign in text]:
            if found := self._special_text.search(decoded.texts[i]):
                line = self._report.lines + decoded.line_of(i)
                self._report.warn("special_token_text", line, f"{found.group()} is kept as text")
        for i in [i for i, t in enumerate(decoded.texts) if "`" in t and _find_fence(t)]:
            self._note_fences(decoded.records[i], self._report.lines + decoded.line_of(i))

    def _note_fences(self, record: Any, line: int) -> None:
        if isinstance(record, Text):
            self._report.fences.update(find_fences(record.text).languages)
            return
        for turn in self._form.turns(record):
            languages, cut = find_fences(turn.content)
            self._report.fences.update(languages)
            if turn.role == "bot" and cut:
                self._report.warn("cut_code_fence", line, "an answer ends inside a code fence")

    def _look_for_leaks(self, leaks: LeakIndex, decoded: Decoded) -> None:
        for i, question in leaks.search(decoded.texts):
            line = self._report.lines + decoded.line_of(i)
            self._report.warn("leakage", line, f"holds text of {question}")

    def _count_tokens(self, encoder: ChatMLEncoder, decoded: Decoded) -> None:
        for record in decoded.records:
            ids = array("i")
            spans: list[tuple[int, int]] = []
            if isinstance(record, Text):
                encoder.encode_text(record.text, ids, spans)
            else:
                encoder.encode_chat(self._form.turns(record), ids, spans)
            self._tokens.append(len(ids))
            self._trained.append(sum(stop - start for start, stop in spans))
            pieces = list(fitting_pieces(len(ids), spans, self._overlong, self._seq_length))
            self._fitting.append(sum(trained for _, trained in pieces))
            self._fitted.extend(length for length, trained in pieces if trained)


@lru_cache
def _special_text(of_tokenizer: tuple[str, ...]) -> tuple[re.Pattern[str], str]:
    """What finds the text of a special token, and a character that each such text has, or "".

    Most tokenizers spell them <|so|>, which is all that is known without one.
    """
    longest_first = sorted(of_tokenizer, key=len, reverse=True)
    common = set("|<").intersection(*of_tokenizer)
    sign = next((one for one in "|<" if one in common), "")
    return re.compile("|".join([_SPECIAL_TEXT, *map(re.escape, longest_first)])), sign
