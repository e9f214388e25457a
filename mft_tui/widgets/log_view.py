"""The pane that shows a log: follows, scrolls, searches, filters, selects and copies.

It holds no line it does not show. Ten times a second, while the log grows, one call in the lane
counts what is new and reads what the pane will show next; the event loop only paints.
"""

import asyncio
import re
from pathlib import Path
from typing import ClassVar

from rich.segment import Segment
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mft_tui.widgets.guard import guarded
from mft_tui.widgets.lanes import Lane
from mft_tui.widgets.log_file import Extent, Search, text_pattern
from mft_tui.widgets.log_reader import LogReader, Snapshot
from mft_tui.widgets.log_strips import line_strips

_POLL = 0.1
_POLL_QUIET = 0.5
_QUIET_AFTER = 20  # polls without news


class LogView(ScrollView, can_focus=True):
    """The lines themselves. One row of scrolling is one line, however often it is wrapped."""

    DEFAULT_CSS = """
    LogView { height: 1fr; background: $surface; scrollbar-size-vertical: 1; }
    LogView > .log--cursor { background: $primary 20%; }
    LogView > .log--selection { background: $primary 40%; }
    LogView > .log--match { background: $warning 50%; text-style: bold; }
    LogView > .log--empty { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "log--cursor",
        "log--selection",
        "log--match",
        "log--empty",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "cursor(-1)", "Up", show=False, id="log.up"),
        Binding("down,j", "cursor(1)", "Down", show=False, id="log.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="log.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="log.page_down"),
        Binding("home,g", "top", "Top", show=False, id="log.top"),
        Binding("end,G", "follow", "Follow", id="log.follow"),
        Binding("w", "wrap", "Wrap", id="log.wrap"),
        Binding("v", "mark", "Select", show=False, id="log.mark"),
        Binding("y", "copy", "Copy", show=False, id="log.copy"),
        Binding("n", "find(1)", "Next match", show=False, id="log.next"),
        Binding("N", "find(-1)", "Previous match", show=False, id="log.previous"),
    ]

    wrap: reactive[bool] = reactive(False)
    following: reactive[bool] = reactive(True)
    cursor: reactive[int] = reactive(0)

    class Moved(Message):
        """What the pane says about itself has changed."""

        def __init__(self, view: "LogView") -> None:
            super().__init__()
            self.view = view

    def __init__(self, path: Path, lane: Lane, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._lane = lane
        self._reader = LogReader(path)
        self._extent = Extent(0, 0, 0, 0)
        self._rows = 0
        self._raw: dict[int, bytes] = {}  # by row
        self._strips: dict[tuple[int, int], list[Strip]] = {}  # by row and wrapping width
        self._released_at = 0
        self._mark: int | None = None
        self._search: re.Pattern[bytes] | None = None
        self._width = 0
        self._quiet = 0
        self._looking = False
        self._again = False
        self._searching: int | None = None
        self._counted = asyncio.Event()

    def on_mount(self) -> None:
        self._timer = self.set_interval(_POLL, self._look)
        self._look()

    def on_unmount(self) -> None:
        # In the lane, after what is under way there: it would open the file again.
        self._lane.post(self._reader.log.close)

    def on_resize(self) -> None:
        if self.following:
            self.call_after_refresh(self._to_end)
        self._look()

    def _to_end(self) -> None:
        if self.following:
            self.scroll_to(y=self.max_scroll_y, animate=False)

    @property
    def new_lines(self) -> int:
        """Lines that came since following was released."""
        return 0 if self.following else max(0, self._rows - self._released_at)

    @property
    def extent(self) -> Extent:
        """What is known of the file."""
        return self._extent

    @property
    def row_count(self) -> int:
        """Rows that can be scrolled through."""
        return self._rows

    def _look(self) -> None:
        if self._looking:
            self._again = True
            return
        self._looking = True
        self._look_once()

    @guarded(group="log-look")
    async def _look_once(self) -> None:
        try:
            height = max(self.size.height, 24) * 2
            first = None if self.following else max(0, self._top() - height // 4)
            snapshot = await self._lane.call(self._reader.look, first, height)
            self._take(snapshot)
        finally:
            self._looking = False
        if self._again:
            self._again = False
            self._look()

    def _take(self, snapshot: Snapshot) -> None:
        news = snapshot.extent != self._extent or snapshot.rows != self._rows
        rows = {snapshot.first + n: raw for n, (_, raw) in enumerate(snapshot.lines)}
        changed = news or rows != self._raw
        before, numbered = self._rows, snapshot.extent.complete and not self._extent.complete
        self._quiet = 0 if news else self._quiet + 1
        if self._quiet in (0, _QUIET_AFTER):
            self._timer.stop()
            pause = _POLL if self._quiet == 0 else _POLL_QUIET
            self._timer = self.set_interval(pause, self._look)
        if snapshot.extent.complete:
            self._counted.set()  # whoever waits for it goes on after this
        else:
            self._counted.clear()
        if not changed:
            return
        self._extent, self._rows = snapshot.extent, snapshot.rows
        self._strips = {
            key: strips
            for key, strips in self._strips.items()
            if rows.get(key[0]) is not None and rows[key[0]] == self._raw.get(key[0])
        }
        self._raw = rows
        if not self.wrap:
            self._width = max([self._width, *(self._strip(row)[0].cell_length for row in rows)])
        self._measure()
        if self.following:
            self.set_reactive(LogView.cursor, max(0, self._rows - 1))
            self._to_end()
            # The scroll bar may come or go with the new size, and then the end is elsewhere.
            self.call_after_refresh(self._to_end)
        elif numbered and self._reader.filter is None:
            self._renumber(snapshot.rows - before)
        self.refresh()
        self.post_message(self.Moved(self))

    def _renumber(self, by: int) -> None:
        """Stay at the same lines when rows of the tail, now that all are counted, are others."""
        self._released_at += by
        self._mark = None if self._mark is None else self._mark + by
        self.set_reactive(LogView.cursor, self.cursor + by)
        self.scroll_to(y=self._top() + by, animate=False)
        self._look()

    def _measure(self) -> None:
        width = 0 if self.wrap else self._width
        self.virtual_size = Size(width, self._rows)

    def _top(self) -> int:
        return int(self.scroll_y)

    # Drawing

    def _strip(self, row: int) -> list[Strip]:
        width = self.size.width if self.wrap else 0
        if (known := self._strips.get((row, width))) is not None:
            return known
        match = self.get_component_rich_style("log--match")
        strips = line_strips(self._raw[row], width, self._search, match)
        self._strips[row, width] = strips
        return strips

    def render_lines(self, crop: "object") -> list[Strip]:
        self._layout_rows()
        return super().render_lines(crop)  # type: ignore[arg-type]

    def _layout_rows(self) -> None:
        """Decide which part of which row each line of the pane shows."""
        height, top = self.size.height, self._top()
        shown: list[tuple[int, Strip]] = []
        if self.wrap and top >= self.max_scroll_y and self._rows:
            row = self._rows - 1
            while row >= 0 and len(shown) < height and row in self._raw:
                shown[:0] = [(row, strip) for strip in self._strip(row)]
                row -= 1
            shown = shown[-height:]
        else:
            row = top
            while len(shown) < height and row < self._rows:
                strips = self._strip(row) if row in self._raw else [Strip.blank(0)]
                shown.extend((row, strip) for strip in strips)
                row += 1
        self._shown = shown

    def render_line(self, y: int) -> Strip:
        width = self.size.width
        base = self.rich_style
        if y >= len(self._shown):
            if y == 0 and not self._rows:
                style = base + self.get_component_rich_style("log--empty")
                return Strip([Segment(self._empty_text(), style)]).adjust_cell_length(width, base)
            return Strip.blank(width, base)
        row, strip = self._shown[y]
        style = base
        if self._selected(row):
            style = base + self.get_component_rich_style("log--selection")
        elif row == self.cursor and self.has_focus and not self.following:
            style = base + self.get_component_rich_style("log--cursor")
        left = 0 if self.wrap else int(self.scroll_x)
        return strip.crop(left, left + width).adjust_cell_length(width, None).apply_style(style)

    def _empty_text(self) -> str:
        if self._reader.filter is not None:
            return "no line matches"
        return "nothing has been written yet"

    def _selected(self, row: int) -> bool:
        if self._mark is None:
            return False
        return min(self._mark, self.cursor) <= row <= max(self._mark, self.cursor)

    # Moving

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        if int(old_value) == int(new_value):
            return
        if self.following and new_value < min(old_value, self.max_scroll_y):
            self._release()
        missing = [
            row
            for row in range(int(new_value), min(int(new_value) + self.size.height, self._rows))
            if row not in self._raw
        ]
        if missing:
            self._look()

    def _release(self) -> None:
        if self.following and self._rows:
            self._released_at = self._rows
            self.following = False

    def action_cursor(self, step: int) -> None:
        self._release()
        self.cursor = max(0, min(self._rows - 1, self.cursor + step))

    def action_page(self, step: int) -> None:
        self.action_cursor(step * max(1, self.size.height - 1))

    def action_top(self) -> None:
        self._release()
        self.cursor = 0

    def action_follow(self) -> None:
        """Go to the end and stay there."""
        self._mark = None
        self.following = True
        self.scroll_to(y=self.max_scroll_y, animate=False)
        self._look()

    def watch_following(self) -> None:
        self.refresh()
        self.post_message(self.Moved(self))

    def watch_cursor(self, cursor: int) -> None:
        if self.following:
            return
        top, height = self._top(), self.size.height
        if cursor < top:
            self.scroll_to(y=cursor, animate=False)
        elif cursor >= top + height:
            self.scroll_to(y=cursor - height + 1, animate=False)
        self.refresh()
        self.post_message(self.Moved(self))

    def action_wrap(self) -> None:
        self.wrap = not self.wrap

    def watch_wrap(self) -> None:
        self._measure()
        self.scroll_to(x=0, animate=False)
        self.refresh()
        self.post_message(self.Moved(self))

    # Selecting and copying

    def action_mark(self) -> None:
        """Begin a selection at the cursor, or drop it."""
        self._release()
        self._mark = self.cursor if self._mark is None else None
        self.refresh()

    @guarded(group="log-copy", exclusive=True)
    async def action_copy(self) -> None:
        """Copy the selected lines, or the cursor's, to the person's clipboard (OSC 52)."""
        mark = self.cursor if self._mark is None else self._mark
        first, last = sorted((mark, self.cursor))
        text = await self._lane.call(self._reader.text, first, last)
        self.app.copy_to_clipboard(text)
        count = text.count("\n") + 1
        self.notify(f"Copied {count:,} line{'s' if count > 1 else ''}", timeout=2)
        self._mark = None
        self.refresh()

    # Searching and filtering

    def search(self, text: str) -> None:
        """Mark what matches and go to the nearest match above, or below."""
        self.give_up_search()
        self._search = text_pattern(text) if text else None
        self._strips.clear()
        self.refresh()
        if text:
            self._find(-1, 0)

    def action_find(self, direction: int) -> None:
        if self._search is not None:
            self._find(direction, direction)

    def give_up_search(self) -> bool:
        """End a search that is under way; whether there was one."""
        searching = self._searching is not None
        self.workers.cancel_group(self, "log-find")
        return searching

    @property
    def searching(self) -> int | None:
        """The row that a search has come to; None when there is none."""
        return self._searching

    @guarded(group="log-find", exclusive=True)
    async def _find(self, direction: int, away: int) -> None:
        """Go to the nearest match from ``away`` rows beside the cursor on."""
        pattern = self._search
        if pattern is None:
            return
        try:
            # Until all lines are counted a row is one of the tail's, and no line of the file's.
            self._searching = self.cursor
            self.post_message(self.Moved(self))
            await self._counted.wait()
            step = Search(None, self.cursor + away)
            # In steps, so that the pane goes on following and the search can be given up.
            while step.found is None and step.onward is not None:
                self._searching = step.onward
                step = await self._lane.call(self._reader.find, pattern, step.onward, direction < 0)
                self.post_message(self.Moved(self))
        finally:
            self._searching = None
            self.post_message(self.Moved(self))
        if step.found is None:
            self.notify("No further match", timeout=2)
            return
        self._release()
        self.cursor = step.found
        self._look()

    @guarded(group="log-filter", exclusive=True)
    async def filter(self, text: str) -> None:
        """Show only the lines that match; all of them for an empty text."""
        pattern = text_pattern(text) if text else None
        await self._lane.call(self._reader.set_filter, pattern)
        self._raw, self._strips, self._mark = {}, {}, None
        self.following = True
        self._look()
