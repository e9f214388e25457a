"""The table of runs: ten thousand rows scroll like ten, because only what is seen exists.

Textual's DataTable measures every cell it is given on the event loop. This one knows the number of
rows, asks for the pages it is about to show (``Wanted``), and paints the rest as empty lines until
they come. It knows columns and rows; where pages come from is its screen's business.
"""

from collections import OrderedDict
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Region, Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from db.records import LIVE_STATUSES, Page, RunRow
from mft_tui.widgets.run_columns import COLUMNS, Column, columns_of

_PAGE = 100
_PAGES_KEPT = 20


@dataclass(frozen=True)
class _Placed:
    """A column and the cells it got."""

    column: Column
    width: int


class RunTable(ScrollView, can_focus=True):
    """A cursor over runs, marks on some of them, columns as wide as the screen allows."""

    DEFAULT_CSS = """
    RunTable { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    RunTable > .runs--header { color: $text-muted; }
    RunTable > .runs--cursor { background: $primary 25%; text-style: bold; }
    RunTable > .runs--cursor-blurred { background: $boost; }
    RunTable > .runs--marked { color: $accent; text-style: bold; }
    RunTable > .runs--muted { color: $text-muted; }
    RunTable > .runs--good { color: $success; }
    RunTable > .runs--live { color: $primary; }
    RunTable > .runs--warn { color: $warning; }
    RunTable > .runs--bad { color: $error; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        f"runs--{name}"
        for name in (
            "header cursor cursor-blurred marked muted good live warn bad".split()  # noqa: SIM905
        )
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="runs.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="runs.down"),
        Binding("pageup", "page(-1)", "Page up", show=False, id="runs.page_up"),
        Binding("pagedown", "page(1)", "Page down", show=False, id="runs.page_down"),
        Binding("home,g", "edge(0)", "First", show=False, id="runs.first"),
        Binding("end,G", "edge(-1)", "Last", show=False, id="runs.last"),
        Binding("space", "mark", "Mark", show=False, id="runs.mark"),
    ]

    cursor: reactive[int] = reactive(0)

    class Wanted(Message):
        """Rows are about to be shown that are not here."""

        def __init__(self, offset: int, limit: int) -> None:
            super().__init__()
            self.offset, self.limit = offset, limit

    class Moved(Message):
        """The cursor is on another run, or on the same one renewed."""

        def __init__(self, row: RunRow | None) -> None:
            super().__init__()
            self.row = row

    class Opened(Message):
        """The run under the cursor was chosen."""

        def __init__(self, row: RunRow) -> None:
            super().__init__()
            self.row = row

    def __init__(self, clock: Callable[[], float], *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._clock = clock
        self._pages: OrderedDict[int, tuple[RunRow, ...]] = OrderedDict()
        self._asked: set[int] = set()
        self._stale: set[int] = set()
        self._count = 0
        self._columns: tuple[Column, ...] = COLUMNS
        self._placed: tuple[_Placed, ...] = ()
        self._anchor: str | None = None
        """The run that the cursor was put on; it stays there while rows come and go."""
        self._sought = False
        self._first: int | None = None
        self._base: Style | None = None
        self.marked: dict[str, RunRow] = {}
        self.sort = "-created_at"

    # What it shows

    @property
    def row_count(self) -> int:
        """Runs in all."""
        return self._count

    @property
    def current(self) -> RunRow | None:
        """The run under the cursor; None while it is not here, or is being looked for."""
        return None if self._sought else self.row(self.cursor)

    @property
    def sorts(self) -> tuple[str, ...]:
        """What the columns that are shown can be sorted by."""
        return tuple(column.sort for column in self._columns if column.sort)

    def row(self, index: int) -> RunRow | None:
        """Row ``index``, if its page is here."""
        rows = self._pages.get(index // _PAGE)
        within = index % _PAGE
        return rows[within] if rows is not None and within < len(rows) else None

    def take(self, page: Page) -> None:
        """Show a page that was wanted; the cursor stays on its run, wherever that has gone."""
        moved = page.total != self._count
        self._count = page.total
        number = page.offset // _PAGE
        self._pages[number] = page.rows
        self._pages.move_to_end(number)
        self._asked.discard(number)
        self._stale.discard(number)
        for row in page.rows:
            if row.run.id in self.marked:
                self.marked[row.run.id] = row
        while len(self._pages) > _PAGES_KEPT:
            self._pages.popitem(last=False)
        if moved:
            self._stale.update(n for n in self._pages if n != number)
            self.virtual_size = Size(0, self._count + 1)
        if self._first is not None:
            self.cursor, self._first = self._first, None
        self._follow()
        self.refresh()
        self._want()
        if self.cursor // _PAGE == number:
            self.post_message(self.Moved(self.current))

    def _follow(self) -> None:
        """Put the cursor where its run is now; what a key does must not change by itself."""
        self.cursor = max(0, min(self.cursor, self._count - 1))
        here = self.row(self.cursor)
        if here is None:
            return
        if self._anchor in (None, here.run.id):
            self._anchor, self._sought = here.run.id, False
        elif (place := self._place_of(self._anchor)) is not None:
            top, step = int(self.scroll_y), place - self.cursor
            self.cursor, self._sought = place, False
            if top:
                self.scroll_to(y=top + step, animate=False)
        else:
            # It may have gone over an edge of its page; if not, the list has it no more.
            page = self.cursor // _PAGE
            beside = [n for n in (page - 1, page + 1) if 0 <= n * _PAGE < self._count]
            if beside and not self._sought:
                self._sought = True
                for number in beside:
                    self._ask(number)
            elif not self._asked:
                self._anchor, self._sought = here.run.id, False

    def _place_of(self, run_id: str | None) -> int | None:
        for number, rows in self._pages.items():
            if number not in self._stale:
                for within, row in enumerate(rows):
                    if row.run.id == run_id:
                        return number * _PAGE + within
        return None

    def renew(self) -> None:
        """Ask again for what is seen; it stays until the answer comes."""
        self._stale.update(self._pages)
        self._asked.clear()
        self._want(always=True)

    def restart(self, run_id: str | None = None, near: int = 0) -> None:
        """Another filter or order: forget the rows and begin at the top.

        Or at the run ``run_id``, if it is still at about row ``near``.
        """
        self._pages.clear()
        self._asked.clear()
        self._stale.clear()
        self._anchor, self._first, self._sought = run_id, near, False
        self.cursor = 0
        self.scroll_to(y=0, animate=False)
        self._ask(near // _PAGE)

    def set_columns(self, keys: Iterable[str]) -> None:
        """Show these columns; see ``columns_of``."""
        self._columns = columns_of(keys)
        self._place()
        self.refresh()

    def _want(self, *, always: bool = False, ahead: bool = False) -> None:
        """Ask for what is seen and not here, the cursor's page first; ``ahead``, for what is
        beside it too: whoever scrolls on should not wait."""
        top = int(self.scroll_y)
        end = max(0, self._count - 1)
        last = min(end, top + max(1, self.size.height))
        seen = range(top // _PAGE, last // _PAGE + 1)
        here = self.cursor // _PAGE
        wanted = sorted(seen, key=lambda number: abs(number - here))
        if ahead:
            wanted += [n for n in (seen[-1] + 1, seen[0] - 1) if 0 <= n <= end // _PAGE]
        for number in wanted:
            fresh = number in self._pages and number not in self._stale
            if (not fresh or (always and number in seen)) and number not in self._asked:
                self._ask(number)

    def _ask(self, number: int) -> None:
        self._asked.add(number)
        self.post_message(self.Wanted(number * _PAGE, _PAGE))

    # Where it goes

    def on_resize(self) -> None:
        self._place()
        self._want()

    def _place(self) -> None:
        room = self.size.width - 2
        chosen = list(self._columns)
        while len(chosen) > 1 and sum(c.width + 2 for c in chosen) > room:
            chosen.remove(max(chosen, key=lambda c: c.rank))
        spare = room - sum(c.width + 2 for c in chosen)
        flexible = sum(c.flexible for c in chosen) or 1
        self._placed = tuple(
            _Placed(c, c.width + (min(spare // flexible, 48) if c.flexible else 0)) for c in chosen
        )

    def watch_scroll_y(self, old_value: float, new_value: float) -> None:
        super().watch_scroll_y(old_value, new_value)
        self._want(ahead=True)

    def validate_cursor(self, cursor: int) -> int:
        return max(0, min(cursor, max(0, self._count - 1)))

    def watch_cursor(self, cursor: int) -> None:
        top, height = int(self.scroll_y), max(1, self.size.height - 1)
        if cursor < top:
            self.scroll_to(y=cursor, animate=False)
        elif cursor >= top + height:
            self.scroll_to(y=cursor - height + 1, animate=False)
        self.refresh()
        self.post_message(self.Moved(self.current))

    def _go(self, row: int) -> None:
        self.cursor, self._sought = row, False
        here = self.current
        self._anchor = None if here is None else here.run.id

    def action_move(self, step: int) -> None:
        self._go(self.cursor + step)

    def action_page(self, step: int) -> None:
        self._go(self.cursor + step * max(1, self.size.height - 2))

    def action_edge(self, edge: int) -> None:
        self._go(0 if edge == 0 else self._count - 1)

    def action_mark(self) -> None:
        """Mark the run under the cursor, or unmark it, and go on to the next."""
        if (row := self.current) is None:
            return
        if self.marked.pop(row.run.id, None) is None:
            self.marked[row.run.id] = row
        self._go(self.cursor + 1)
        self.refresh()

    def on_click(self, event: events.Click) -> None:
        if event.y == 0:
            return
        clicked = int(self.scroll_y) + event.y - 1
        if clicked >= self._count:
            return
        if clicked == self.cursor and (row := self.current) is not None:
            self.post_message(self.Opened(row))
        self._go(clicked)

    # How it is drawn

    def tick(self) -> None:
        """Draw again what a second changes: the lines of runs that go on."""
        first = int(self.scroll_y) - 1
        for y in range(1, min(self.size.height, self._count - first)):
            row = self.row(first + y)
            if row is not None and row.run.status in LIVE_STATUSES:
                self.refresh(Region(0, y, self.size.width, 1))

    def render_lines(self, crop: Region) -> list[Strip]:
        self._base = self.rich_style  # once, not a line: it is blended through all ancestors
        return super().render_lines(crop)

    def render_line(self, y: int) -> Strip:
        width, base = self.size.width, self._base or self.rich_style
        if y == 0:
            return self._header(base).adjust_cell_length(width, base)
        index = int(self.scroll_y) + y - 1
        row = self.row(index) if index < self._count else None
        if row is None:
            return Strip.blank(width, base)
        if index == self.cursor:
            name = "runs--cursor" if self.has_focus else "runs--cursor-blurred"
            base = base + self.get_component_rich_style(name)
        now, marked = self._clock(), row.run.id in self.marked
        segments = [
            Segment("▌ " if marked else "  ", base + self.get_component_rich_style("runs--marked"))
        ]
        for placed in self._placed:
            text, tone = placed.column.cell(row, now)
            style = base + self.get_component_rich_style(f"runs--{tone}") if tone else base
            if index == self.cursor and style.bgcolor != base.bgcolor:
                style = style + Style(bgcolor=base.bgcolor)
            segments.append(Segment(_fit(text, placed) + "  ", style))
        return Strip(segments).adjust_cell_length(width, base)

    def _header(self, base: Style) -> Strip:
        style = base + self.get_component_rich_style("runs--header")
        cells = ["  "]
        for placed in self._placed:
            title = placed.column.title
            if placed.column.sort and placed.column.sort == self.sort.lstrip("-"):
                title += " ↓" if self.sort.startswith("-") else " ↑"
            cells.append(_fit(title, placed) + "  ")
        return Strip([Segment("".join(cells), style)])


def _fit(text: str, placed: _Placed) -> str:
    if len(text) > placed.width:
        text = text[: placed.width - 1] + "…"
    return text.rjust(placed.width) if placed.column.right else text.ljust(placed.width)
