"""The lane's side of the log pane: the file, the filter on it, and what a pane shows next.

Apart from the pane so that it runs in another thread and knows no widget.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path

from mft_tui.widgets.log_file import Extent, LineFilter, LogFile, Search
from mft_tui.widgets.terminal_text import plain_text

_COPY_LINES = 10_000
_FILTERED_STEP = 500
"""Rows of a filtered log that a step of a search looks at: each is a read of its own."""


@dataclass(frozen=True)
class Snapshot:
    """What one look at the file brought."""

    extent: Extent
    rows: int
    """Lines that the pane can scroll through: all, those that match, or the tail's."""
    first: int
    lines: list[tuple[int, bytes]] = field(default_factory=list)
    """(line number, raw) of rows ``first`` on; the number is -1 before the index is complete."""


class LogReader:
    """The lane's side of the pane: the file, and the filter on it."""

    def __init__(self, path: Path) -> None:
        self.log = LogFile(path)
        self.filter: LineFilter | None = None

    def look(self, first: int | None, height: int) -> Snapshot:
        """Go on counting, then read ``height`` rows from row ``first`` (None: the last ones)."""
        extent = self.log.advance()
        if self.filter is not None:
            self.filter.advance(extent)
            matches = self.filter.matches
            start = max(0, len(matches) - height) if first is None else first
            numbers = list(matches[start : start + height])
            lines = [(n, raw) for n in numbers for raw in self.log.lines(n, 1)]
            return Snapshot(extent, len(matches), start, lines)
        if not extent.complete:
            tail = self.log.tail(height)
            return Snapshot(extent, len(tail), 0, [(-1, raw) for raw in tail])
        start = max(0, extent.lines - height) if first is None else first
        lines = list(enumerate(self.log.lines(start, height), start))
        return Snapshot(extent, extent.lines, start, lines)

    def set_filter(self, pattern: "re.Pattern[bytes] | None") -> None:
        self.filter = None if pattern is None else LineFilter(self.log, pattern)

    def find(self, pattern: "re.Pattern[bytes]", row: int, backwards: bool) -> Search:
        """A step of the search from ``row`` on, among the rows that the filter leaves."""
        if self.filter is None:
            return self.log.find(pattern, row, backwards=backwards)
        matches = self.filter.matches
        rows = range(row, -1, -1) if backwards else range(max(0, row), len(matches))
        for candidate in rows[:_FILTERED_STEP]:
            if any(pattern.search(raw) for raw in self.log.lines(matches[candidate], 1)):
                return Search(candidate, None)
        left = rows[_FILTERED_STEP:]
        return Search(None, left[0] if left else None)

    def text(self, first: int, last: int) -> str:
        """Rows ``first`` to ``last``, as they are shown but unstyled, for the clipboard."""
        wanted = range(first, min(last + 1, first + _COPY_LINES))
        if self.filter is not None:
            matches = self.filter.matches
            raws = [raw for row in wanted for raw in self.log.lines(matches[row], 1)]
        else:
            raws = self.log.lines(first, len(wanted))
        return "\n".join(plain_text(raw) for raw in raws)
