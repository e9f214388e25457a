"""A log with what belongs around it: the line for searching and filtering, and its status."""

import re
from pathlib import Path
from typing import ClassVar

from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input

from mft_tui.widgets.lanes import Lane
from mft_tui.widgets.log_view import LogView


class LogPane(Vertical):
    """A log with its line for searching and filtering and its status."""

    DEFAULT_CSS = """
    LogPane {
        border: round $border-blurred; border-title-color: $text-muted;
        border-subtitle-color: $text-muted;
    }
    LogPane:focus-within { border: round $primary; }
    LogPane > Input { height: 1; border: none; padding: 0 1; display: none; background: $boost; }
    LogPane > Input.-asked { display: block; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("slash", "ask('search')", "Search", key_display="/", id="log.search"),
        Binding("ampersand", "ask('filter')", "Filter", key_display="&", id="log.filter"),
    ]

    class Counted(Message):
        """The log has ``rows`` rows; a pane that wraps them cannot say how high that is."""

        def __init__(self, pane: "LogPane", rows: int) -> None:
            super().__init__()
            self.pane, self.rows = pane, rows

    def __init__(self, path: Path, lane: Lane, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._path, self._lane = path, lane
        self._asked = "search"
        self._rows = -1
        self.border_title = "log"

    def compose(self) -> ComposeResult:
        yield LogView(self._path, self._lane)
        yield Input(select_on_focus=True)

    @property
    def view(self) -> LogView:
        """The lines."""
        return self.query_one(LogView)

    def action_ask(self, what: str) -> None:
        self._asked = what
        line = self.query_one(Input)
        line.placeholder = f"{what} (text, or /regex/); empty to clear"
        line.add_class("-asked")
        line.focus()

    @on(Input.Submitted)
    def _answer(self, event: Input.Submitted) -> None:
        event.stop()
        try:
            if self._asked == "search":
                self.view.search(event.value)
            else:
                self.view.filter(event.value)
        except re.error as error:
            self.notify(f"Not a regular expression: {error}", severity="warning")
            return
        self._close_line()

    def on_key(self, event: events.Key) -> None:
        if event.key != "escape":
            return
        if self.query_one(Input).has_focus:
            event.stop()
            self._close_line()
        elif self.view.give_up_search():
            event.stop()

    def _close_line(self) -> None:
        self.query_one(Input).remove_class("-asked")
        self.view.focus()

    def count_again(self) -> None:
        """Say how many rows there are, as whenever that changes."""
        self._rows = self.view.row_count
        self.post_message(self.Counted(self, self._rows))

    @on(LogView.Moved)
    def _tell(self, event: LogView.Moved) -> None:
        event.stop()
        view = event.view
        if view.row_count != self._rows:
            self.count_again()
        if not view.extent.complete:
            share = view.extent.indexed / max(1, view.extent.size)
            then = ", then searching · Esc gives up" if view.searching is not None else ""
            self.border_subtitle = f"counting lines {share:.0%}{then}"
        elif view.searching is not None:
            self.border_subtitle = f"searching, at line {view.searching + 1:,} · Esc gives up"
        elif view.following:
            self.border_subtitle = f"{_lines(view.row_count)} · following"
        elif view.new_lines:
            self.border_subtitle = f"+{_lines(view.new_lines)} · End to follow"
        else:
            self.border_subtitle = f"{view.cursor + 1:,} of {view.row_count:,} · End to follow"


def _lines(count: int) -> str:
    return f"{count:,} line{'s' * (count != 1)}"
