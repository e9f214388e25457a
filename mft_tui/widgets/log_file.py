"""A log as a file and offsets: it can be gigabytes and grow while it is read.

Nothing of the file is kept but, for each block of 64 KiB, the number of lines before it (16,000
numbers for a gigabyte). Lines are read when they are drawn. Every call does a bounded amount of
work, so that the caller can go on in steps; none knows about widgets.
"""

import os
import re
from array import array
from bisect import bisect_left
from dataclasses import dataclass
from pathlib import Path

BLOCK = 64 * 1024
"""Bytes between two entries of the index; also the most that is kept of one line."""

_READ = 1024 * 1024
_MATCHES_KEPT = 500_000


@dataclass(frozen=True)
class Extent:
    """How much of the log there is: ``lines`` counted in the first ``indexed`` of ``size`` bytes.

    ``whole`` of them end in a newline; the last one may still be being written.
    """

    lines: int
    whole: int
    indexed: int
    size: int

    @property
    def complete(self) -> bool:
        """Whether every line is counted."""
        return self.indexed >= self.size


class LogFile:
    """Reads one growing log. Not thread-safe: keep it to one lane."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._fd = -1
        self._closed = False
        self._reset()

    def _reset(self) -> None:
        self._before: array[int] = array("q", [0])  # newlines before each block
        self._newlines = 0
        self._indexed = 0
        self._last_byte = b"\n"

    def close(self) -> None:
        """Let go of the file for good: what is asked of it later finds it empty."""
        self._closed = True
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def advance(self, budget: int = 32 * 1024 * 1024) -> Extent:
        """Count the lines of at most ``budget`` more bytes; start over if the file was cut."""
        size = self._size()
        if size < self._indexed:
            self._reset()
        stop = min(size, self._indexed + budget)
        while self._indexed < stop:
            # Reads end on block borders, so each border gets its entry.
            border = (self._indexed // BLOCK + 1) * BLOCK
            chunk = os.pread(self._fd, min(border, stop) - self._indexed, self._indexed)
            if not chunk:
                break
            self._newlines += chunk.count(b"\n")
            self._indexed += len(chunk)
            self._last_byte = chunk[-1:]
            if self._indexed == border:
                self._before.append(self._newlines)
        partial = self._indexed > 0 and self._last_byte != b"\n"
        return Extent(self._newlines + partial, self._newlines, self._indexed, size)

    def _size(self) -> int:
        if self._closed:
            return 0
        try:
            if self._fd < 0:
                self._fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC)
            return os.fstat(self._fd).st_size
        except FileNotFoundError:
            return 0  # a run that has not begun has no console yet

    def tail(self, count: int) -> list[bytes]:
        """The last ``count`` lines (of the last megabyte), without any index."""
        size = self._size()
        if not size:
            return []
        start = max(0, size - min(_READ, 512 * count + BLOCK))
        chunk = os.pread(self._fd, size - start, start)
        lines = chunk.removesuffix(b"\n").split(b"\n")
        if start:
            lines = lines[1:] or lines
        return [line[-BLOCK:] for line in lines[-count:]]

    def lines(self, first: int, count: int) -> list[bytes]:
        """Lines ``first`` to ``first + count``, counted from 0, without their newlines.

        Only indexed lines are found. Of a line longer than a block its end is given: what a
        progress bar left there is what one would see.
        """
        found: list[bytes] = []
        if count <= 0 or first < 0:
            return found
        offset = self._offset(first)
        while len(found) < count and offset < self._indexed:
            chunk = os.pread(self._fd, min(_READ, self._indexed - offset), offset)
            if not chunk:
                break
            *whole, rest = chunk.split(b"\n")
            found.extend(line[-BLOCK:] for line in whole)
            offset += len(chunk) - len(rest)
            if not whole:  # one line fills the chunk, or it is the unfinished last one
                end = min(self._offset(first + len(found) + 1), self._indexed)
                start = max(offset, end - BLOCK)
                found.append(os.pread(self._fd, end - start, start).removesuffix(b"\n"))
                offset = end
        return found[:count]

    def _offset(self, line: int) -> int:
        """Where a line starts; the end of what is indexed when there is no such line."""
        if line <= 0:
            return 0
        if line > self._newlines:
            return self._indexed
        block = bisect_left(self._before, line) - 1
        data = os.pread(self._fd, BLOCK, block * BLOCK)
        position = -1
        for _ in range(line - self._before[block]):
            position = data.find(b"\n", position + 1)
        return block * BLOCK + position + 1

    def find(
        self,
        pattern: "re.Pattern[bytes]",
        start: int,
        *,
        backwards: bool,
        budget: int = 20_000,
    ) -> "Search":
        """The next line that matches, among ``budget`` lines from ``start`` on (itself included).

        ``Search.onward`` is where to go on.
        """
        if not 0 <= start < self._newlines + 1:
            return Search(None, None)
        low = max(0, start - budget + 1) if backwards else start
        lines = self.lines(low, start - low + 1 if backwards else budget)
        hits = [n for n, line in enumerate(lines) if pattern.search(line)]
        if hits:
            return Search(low + (hits[-1] if backwards else hits[0]), None)
        onward = low - 1 if backwards else low + len(lines)
        return Search(None, onward if lines and onward >= 0 else None)


@dataclass(frozen=True)
class Search:
    """What a step of a search found, and where the next one begins; both None at its end."""

    found: int | None
    onward: int | None


class LineFilter:
    """The numbers of the lines that match a pattern, found in steps as the log grows."""

    def __init__(self, log: LogFile, pattern: "re.Pattern[bytes]") -> None:
        self.pattern = pattern
        self.matches: array[int] = array("q")
        self.scanned = 0
        self._log = log

    @property
    def full(self) -> bool:
        """Whether there are more matches than are kept."""
        return len(self.matches) >= _MATCHES_KEPT

    def advance(self, extent: Extent, budget: int = 50_000) -> None:
        """Look at the next ``budget`` lines at most."""
        stop = min(extent.whole, self.scanned + budget)
        while self.scanned < stop and not self.full:
            lines = self._log.lines(self.scanned, min(10_000, stop - self.scanned))
            if not lines:
                return
            search = self.pattern.search
            self.matches.extend(
                self.scanned + number for number, line in enumerate(lines) if search(line)
            )
            self.scanned += len(lines)


def text_pattern(text: str) -> "re.Pattern[bytes]":
    """The pattern for what a person typed: ``/regex/`` if in slashes, else the text itself.

    Capital letters matter only when there are some. Raises ``re.error`` for a broken regex.
    """
    slashed = len(text) > 2 and text.startswith("/") and text.endswith("/")
    source = text[1:-1] if slashed else re.escape(text)
    flags = re.IGNORECASE if text == text.lower() else 0
    return re.compile(source.encode(), flags)
