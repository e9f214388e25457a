"""Blocks of lines to typed records, faster than line by line, with the line of all that fails.

A block is decoded in one go into its format's type, which checks its structure on the way. Then a
few questions are put to the block as a whole: does each line hold one object, is all of it UTF-8,
are its turns in a right order. Only where an answer is no are its lines looked at one by one.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

import msgspec

from runners.data.diagnose import Fault, diagnose
from runners.data.records import (
    ChatRounds,
    Columns,
    Format,
    Text,
    faults_in_roles,
    faults_in_round_ids,
)
from runners.data.sources import lines_of

SEPARATOR = "\x1e\x1f"
"""Stands between a record's contents when they are joined; real text holds it never."""

_ORDERS_REMEMBERED = 10_000


@dataclass(frozen=True)
class BadLine:
    """A line that is no usable record: its number in the block, from 0, and what is wrong."""

    line: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Decoded:
    """What a block held: good records in order, the lines they stand on, and the bad lines.

    ``columns`` are the records turned on their side, and ``period`` is theirs; ``texts`` are each
    one's contents joined by ``SEPARATOR``. ``lines`` is None when record i stands on line i of the
    block. ``line_count`` counts blank lines too.
    """

    records: Sequence[Any]
    columns: Columns
    period: int
    texts: Sequence[str]
    lines: Sequence[int] | None
    bad: Sequence[BadLine]
    line_count: int

    def answers(self, role: str) -> list[str]:
        """The contents of all turns of ``role``, in no order."""
        _, roles, _, contents = self.columns
        if turns := self.period:
            starts = [i for i in range(turns) if roles[i] == role]
            return [content for i in starts for content in contents[i::turns]]
        return [content for one, content in zip(roles, contents, strict=True) if one == role]

    def line_of(self, record: int) -> int:
        """The line in the block, from 0, of a record."""
        return record if self.lines is None else self.lines[record]


@dataclass(frozen=True)
class _Usual:
    """The order that the last block had throughout, as columns of one record without contents."""

    order: Columns
    decoder: "msgspec.json.Decoder[Any]"
    contents: Callable[[Sequence[Any]], list[str]]


class LineDecoder:
    """Decodes lines of one format; remembers which orders of roles it has found to be right."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._decoder = form.decoder()
        self._good_orders: set[tuple[object, ...]] = set()
        self._usual: _Usual | None = None

    def decode(self, block: bytes) -> Decoded:
        """Decode a block of whole lines; the last newline may be missing."""
        return self._usual_order(block) or self._any_order(block) or self._one_by_one(block)

    def _usual_order(self, block: bytes) -> Decoded | None:
        """The block if all of it is in the order of the block before; its type is its check."""
        if self._usual is None:
            return None
        try:
            records = self._usual.decoder.decode_lines(block)
        except (ValueError, RecursionError):
            return None
        order, count = self._usual.order, len(records)
        columns = Columns(
            order.counts * count,
            order.roles * count,
            order.numbers * count,
            self._usual.contents(records),
        )
        return _accepted(block, records, columns, order.counts[0])

    def _any_order(self, block: bytes) -> Decoded | None:
        """The block if all of it is good."""
        try:
            records = self._decoder.decode_lines(block)
        except (ValueError, RecursionError):
            return None
        columns = self._form.columns(records)
        turns = columns.period()
        decoded = _accepted(block, records, columns, turns)
        if decoded is None or not self._orders_are_good(records, columns, turns):
            return None
        self._usual = None
        if self._form.contents is not None and turns and _are_int64(columns.numbers[:turns]):
            order = Columns([turns], columns.roles[:turns], columns.numbers[:turns], [])
            decoder = self._form.decoder_of_order(order.roles, order.numbers)
            self._usual = _Usual(order, decoder, self._form.contents)
        return decoded

    def _orders_are_good(self, records: list[Any], columns: Columns, period: int) -> bool:
        if self._form.is_text:
            return all(columns.contents)
        if period:
            return self._sound(records[0])
        if len(self._good_orders) > _ORDERS_REMEMBERED:
            self._good_orders.clear()
        return _orders(columns) <= self._good_orders or all(map(self._sound, records))

    def _sound(self, record: Any) -> bool:
        if isinstance(record, Text):
            return bool(record.text) and "\0" not in record.text
        turns = self._form.turns(record)
        roles = [turn.role for turn in turns]
        if any(faults_in_roles(roles)) or any("\0" in turn.content for turn in turns):
            return False
        if isinstance(record, ChatRounds):
            numbers = [r.chat_round_id for r in record.chat_rounds]
            if any(faults_in_round_ids(roles, numbers)):
                return False
        self._good_orders |= _orders(self._form.columns([record]))
        return True

    def _one_by_one(self, block: bytes) -> Decoded:
        records: list[Any] = []
        numbers: list[int] = []
        bad: list[BadLine] = []
        lines = lines_of(block)
        for number, line in enumerate(lines):
            if not line.strip():
                continue
            try:
                record = self._decoder.decode(line)
            except (ValueError, RecursionError):
                record = None
            if record is not None and _is_utf8(line) and self._sound(record):
                records.append(record)
                numbers.append(number)
                continue
            faults = diagnose(line.rstrip(b"\r"), self._form)
            bad.append(BadLine(number, tuple(faults) or (Fault("", "is no record"),)))
        columns = self._form.columns(records)
        texts = _joined(columns, 0)
        return Decoded(records, columns, 0, texts, numbers, bad, len(lines))


def _accepted(block: bytes, records: list[Any], columns: Columns, period: int) -> Decoded | None:
    """The block decoded, if nothing is wrong in it that types and orders do not tell."""
    texts = _joined(columns, period)
    if (
        not _holds_an_object_a_line(block, len(records))
        # Fields that are not decoded are skipped unread, so their UTF-8 is checked here.
        or not _is_utf8(block)
        or [text for text in texts if "\0" in text]
    ):
        return None
    return Decoded(records, columns, period, texts, None, (), len(records))


def _holds_an_object_a_line(block: bytes, objects: int) -> bool:
    """True if each line of ``block``, known to hold ``objects`` objects, holds just one.

    Valid JSON has a newline between ``}`` and ``{`` only from one object to the next. So if all
    newlines but the last stand so, and objects are as many as lines, each line holds one.
    """
    if not objects:
        return False
    find = block.find
    end = find(b"\n")
    for _ in range(objects - 1):
        if block[end - 1 : end + 2] != b"}\n{":
            return False
        end = find(b"\n", end + 1)
    return end in (-1, len(block) - 1)


def _are_int64(numbers: Sequence[int | None]) -> bool:
    """True if a decoder's type can name ``numbers``: msgspec has no literals beyond 64 bits."""
    return all(number is None or -(1 << 63) <= number < 1 << 63 for number in numbers)


def _joined(columns: Columns, period: int) -> list[str]:
    """Each record's contents, joined."""
    counts, _, _, contents = columns
    if period:
        return list(map(SEPARATOR.join, zip(*[iter(contents)] * period, strict=True)))
    ends = list(accumulate(counts))
    return [
        SEPARATOR.join(contents[end - count : end]) for count, end in zip(counts, ends, strict=True)
    ]


def _orders(columns: Columns) -> set[tuple[object, ...]]:
    """The distinct orders of roles and numbers; few, however many the records."""
    counts, roles, numbers, _ = columns
    ends = list(accumulate(counts))
    return {
        (*roles[end - count : end], *numbers[end - count : end])
        for count, end in zip(counts, ends, strict=True)
    }


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
