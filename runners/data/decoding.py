"""Blocks of lines to typed records, at parse speed, with the line of everything that fails.

A block that is well formed is decoded by one call. Only when that call fails, or when the block
is laid out in a way that one call could misread, are its lines decoded one by one, and only a
line that fails alone is diagnosed.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import msgspec

from runners.data.diagnose import Fault, diagnose
from runners.data.records import ChatRounds, Format, Text, fault_in_roles, fault_in_round_ids


@dataclass(frozen=True)
class BadLine:
    """A line that is no usable record: its number in the block, from 0, and what is wrong."""

    line: int
    faults: tuple[Fault, ...]


@dataclass(frozen=True)
class Decoded:
    """What a block held: good records in order, the lines they stand on, and the bad lines.

    ``lines`` is None when record i stands on line i of the block. ``line_count`` counts blank
    lines too.
    """

    records: Sequence[Any]
    lines: Sequence[int] | None
    bad: Sequence[BadLine]
    line_count: int

    def line_of(self, record: int) -> int:
        """The line in the block, from 0, of a record."""
        return record if self.lines is None else self.lines[record]


class BlockDecoder:
    """Decodes blocks of one format; remembers which orders of roles it has found to be right."""

    def __init__(self, form: Format) -> None:
        self._form = form
        self._decoder = form.decoder()
        self._good_shapes: set[object] = set()

    def decode(self, block: bytes) -> Decoded:
        """Decode a block of whole lines."""
        try:
            records = self._decoder.decode_lines(block)
        except (ValueError, RecursionError):
            return self._line_by_line(block)
        if not _one_record_a_line(block, len(records)) or not self._all_sound(block, records):
            return self._line_by_line(block)
        return Decoded(records, None, (), len(records))

    def _all_sound(self, block: bytes, records: list[Any]) -> bool:
        # Fields that are not decoded are skipped unread, so their UTF-8 is checked here.
        if b"\\u0000" in block or not _is_utf8(block):
            return False
        return self._shapes(records) <= self._good_shapes or all(map(self._sound, records))

    def _shapes(self, records: list[Any]) -> set[object]:
        """The distinct orders of roles in ``records``; few, however many the records."""
        if self._form.record is ChatRounds:
            return {tuple([(r.role, r.chat_round_id) for r in x.chat_rounds]) for x in records}
        if self._form.record is Text:
            return {"empty" for x in records if not x.text}
        return {tuple([t.role for t in self._form.turns(x)]) for x in records}

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

    def _line_by_line(self, block: bytes) -> Decoded:
        records: list[Any] = []
        lines: list[int] = []
        bad: list[BadLine] = []
        rows = block.split(b"\n")
        if rows[-1] == b"":
            rows.pop()
        for number, row in enumerate(rows):
            if not row.strip():
                continue
            try:
                record = self._decoder.decode(row)
            except (ValueError, RecursionError):
                record = None
            if record is not None and _is_utf8(row) and self._sound(record):
                records.append(record)
                lines.append(number)
                continue
            faults = diagnose(row.removesuffix(b"\r"), self._form)
            bad.append(BadLine(number, tuple(faults) or (Fault("", "is no record"),)))
        return Decoded(records, lines, bad, len(rows))


def _one_record_a_line(block: bytes, records: int) -> bool:
    """True if the block is exactly one object a line, nothing between them but a newline.

    One call decodes two objects on a line, or one over two lines, without complaint. In valid
    JSON ``}\\n{`` stands only between two whole objects, so counting it settles the matter.
    """
    newlines = block.count(b"\n") + (not block.endswith(b"\n"))
    return newlines == records and block.count(b"}\n{") == records - 1


def _is_utf8(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def decode_line(line: bytes, form: Format) -> Any:
    """Decode one line. Raises ``msgspec.DecodeError`` or ``UnicodeDecodeError``."""
    return msgspec.json.decode(line, type=form.record)
