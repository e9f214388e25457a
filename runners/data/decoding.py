"""Batches of lines to typed records, at parse speed, with the line of everything that fails.

A line is decoded straight into its format's type, which checks its structure on the way. Only a
line that fails, or whose turns are in an order not seen before, is looked at closer.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from runners.data.diagnose import Fault, diagnose
from runners.data.records import ChatRounds, Format, Round, Text, fault_in_roles, fault_in_round_ids

SEPARATOR = "\x1e\x1f"
"""Stands between a record's contents when they are joined; real text holds it never."""

_SHAPES_REMEMBERED = 10_000


@dataclass(frozen=True)
class BadLine:
    """A line that is no usable record: its number in the batch, from 0, and what is wrong."""

    line: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Decoded:
    """What a batch held: good records in order, the lines they stand on, and the bad lines.

    ``contents`` are the records' texts, and ``texts`` the same joined by ``SEPARATOR``. ``lines``
    is None when record i stands on line i of the batch. ``line_count`` counts blank lines too.
    """

    records: Sequence[Any]
    contents: Sequence[Sequence[str]]
    texts: Sequence[str]
    lines: Sequence[int] | None
    bad: Sequence[BadLine]
    line_count: int

    def line_of(self, record: int) -> int:
        """The line in the batch, from 0, of a record."""
        return record if self.lines is None else self.lines[record]


class LineDecoder:
    """Decodes lines of one format; remembers which orders of roles it has found to be right."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._decode_line = form.decoder().decode
        self._good_shapes: set[object] = set()

    def decode(self, lines: list[bytes]) -> Decoded:
        """Decode a batch of lines, with or without their newlines."""
        try:
            records = list(map(self._decode_line, lines))
        except (ValueError, RecursionError):
            return self._one_by_one(lines)
        contents = self._form.contents(records)
        texts = list(map(SEPARATOR.join, contents))
        # Fields that are not decoded are skipped unread, so their UTF-8 is checked here.
        is_utf8 = all(map(bytes.isascii, lines)) or all(map(_is_utf8, lines))
        holds_nul = "\0" in "".join(texts)
        if not is_utf8 or holds_nul or not self._orders_are_good(records):
            return self._one_by_one(lines)
        return Decoded(records, contents, texts, None, (), len(lines))

    def _orders_are_good(self, records: list[Any]) -> bool:
        if len(self._good_shapes) > _SHAPES_REMEMBERED:
            self._good_shapes.clear()
        return self._shapes(records) <= self._good_shapes or all(map(self._sound, records))

    def _shapes(self, records: list[Any]) -> set[object]:
        """The distinct orders of roles in ``records``; few, however many the records."""
        if self._form.record is ChatRounds:
            return set(map(_shape_of_rounds, [record.chat_rounds for record in records]))
        if self._form.record is Text:
            return {"empty" for record in records if not record.text}
        return {tuple([t.role for t in self._form.turns(record)]) for record in records}

    def _sound(self, record: Any) -> bool:
        if isinstance(record, Text):
            return bool(record.text) and "\0" not in record.text
        turns = self._form.turns(record)
        roles = [turn.role for turn in turns]
        if fault_in_roles(roles) or any("\0" in turn.content for turn in turns):
            return False
        if isinstance(record, ChatRounds):
            numbers = [r.chat_round_id for r in record.chat_rounds]
            if fault_in_round_ids(roles, numbers):
                return False
        self._good_shapes |= self._shapes([record])
        return True

    def _one_by_one(self, lines: list[bytes]) -> Decoded:
        records: list[Any] = []
        numbers: list[int] = []
        bad: list[BadLine] = []
        for number, row in enumerate(lines):
            if not row.strip():
                continue
            try:
                record = self._decode_line(row)
            except (ValueError, RecursionError):
                record = None
            if record is not None and _is_utf8(row) and self._sound(record):
                records.append(record)
                numbers.append(number)
                continue
            faults = diagnose(row.rstrip(b"\r\n"), self._form)
            bad.append(BadLine(number, tuple(faults) or (Fault("", "is no record"),)))
        contents = self._form.contents(records)
        texts = list(map(SEPARATOR.join, contents))
        return Decoded(records, contents, texts, numbers, bad, len(lines))


def _shape_of_rounds(rounds: Sequence[Round]) -> tuple[object, ...]:
    # One exchange with a system message is what most data is, and unpacking is the fastest read.
    if len(rounds) == 3:
        a, b, c = rounds
        return a.role, b.role, c.role, a.chat_round_id, b.chat_round_id, c.chat_round_id
    return tuple([x for r in rounds for x in (r.role, r.chat_round_id)])


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True
