"""Settings as lines under headings: key, value, who decided it, and whether it is wrong.

It shows and says what is wanted of the setting under the cursor; the form it is part of does it.
"""

from collections.abc import Mapping
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual import events
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mft_tui.widgets.config_fields import MISSING, Inherited, Setting, displayed

_ROOMY = 110
"""From this many columns on, a setting's line has its explanation on it."""


class SettingList(ScrollView, can_focus=True):
    """The lines: headings of groups, and settings."""

    DEFAULT_CSS = """
    SettingList { height: 1fr; scrollbar-size-vertical: 1; overflow-x: hidden; }
    SettingList > .settings--cursor { background: $primary 25%; }
    SettingList > .settings--group { color: $accent; text-style: bold; }
    SettingList > .settings--default { color: $text-muted; }
    SettingList > .settings--changed { color: $foreground; text-style: bold; }
    SettingList > .settings--wrong { color: $error; }
    SettingList > .settings--missing { color: $warning; }
    SettingList > .settings--explained { color: $text-muted; text-style: dim; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "settings--cursor",
        "settings--group",
        "settings--default",
        "settings--changed",
        "settings--wrong",
        "settings--missing",
        "settings--explained",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="form.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="form.down"),
        Binding("pageup", "move(-10)", "Page up", show=False, id="form.page_up"),
        Binding("pagedown", "move(10)", "Page down", show=False, id="form.page_down"),
        Binding("home,g", "move(-9999)", "First", show=False, id="form.first"),
        Binding("end,G", "move(9999)", "Last", show=False, id="form.last"),
        Binding("enter", "edit", "Change", id="form.edit"),
        Binding("right,space", "cycle(1)", "Next choice", show=False, id="form.next_choice"),
        Binding("left", "cycle(-1)", "Previous choice", show=False, id="form.previous_choice"),
        Binding("delete,backspace", "reset", "Reset", show=False, id="form.reset"),
        Binding("slash", "search", "Search", key_display="/", id="form.search"),
        Binding("d", "differences", "Changed only", id="form.differences"),
    ]

    cursor: reactive[int] = reactive(0)

    class Moved(Message):
        """Another setting is under the cursor, or it has changed."""

    class Wanted(Message):
        """Something is to be done with the setting under the cursor."""

        def __init__(self, what: str, step: int = 0) -> None:
            super().__init__()
            self.what, self.step = what, step

    def __init__(self) -> None:
        super().__init__()
        self._lines: list[Setting | str] = []
        self.values: dict[str, object] = {}
        self.wrong: dict[str, str] = {}
        self.inherited: Mapping[str, Inherited] = {}

    def show(self, lines: list[Setting | str]) -> None:
        """Show these lines: a text is a heading."""
        here = self.setting
        self._lines = lines
        self.virtual_size = Size(0, len(lines))
        keys = [n for n, line in enumerate(lines) if isinstance(line, Setting)]
        same = [n for n in keys if here is not None and lines[n] == here]
        self.cursor = (same or keys or [0])[0]
        self.refresh()
        self.post_message(self.Moved())

    @property
    def setting(self) -> Setting | None:
        """The one under the cursor."""
        if not 0 <= self.cursor < len(self._lines):
            return None
        line = self._lines[self.cursor]
        return line if isinstance(line, Setting) else None

    def action_move(self, step: int) -> None:
        keys = [n for n, line in enumerate(self._lines) if isinstance(line, Setting)]
        if not keys:
            return
        place = keys.index(self.cursor) if self.cursor in keys else 0
        self.cursor = keys[max(0, min(len(keys) - 1, place + step))]

    def watch_cursor(self, cursor: int) -> None:
        top, height = int(self.scroll_y), max(1, self.size.height)
        if cursor <= top:
            self.scroll_to(y=max(0, cursor - 1), animate=False)
        elif cursor >= top + height:
            self.scroll_to(y=cursor - height + 1, animate=False)
        self.refresh()
        self.post_message(self.Moved())

    def on_click(self, event: events.Click) -> None:
        clicked = int(self.scroll_y) + event.y
        if clicked < len(self._lines) and isinstance(self._lines[clicked], Setting):
            again = clicked == self.cursor
            self.cursor = clicked
            if again:
                self.action_edit()

    def action_edit(self) -> None:
        self.post_message(self.Wanted("edit"))

    def action_cycle(self, step: int) -> None:
        self.post_message(self.Wanted("cycle", step))

    def action_reset(self) -> None:
        self.post_message(self.Wanted("reset"))

    def action_search(self) -> None:
        self.post_message(self.Wanted("search"))

    def action_differences(self) -> None:
        self.post_message(self.Wanted("differences"))

    def render_line(self, y: int) -> Strip:
        index, width, base = y + int(self.scroll_y), self.size.width, self.rich_style
        if index >= len(self._lines):
            return Strip.blank(width, base)
        line = self._lines[index]
        if isinstance(line, str):
            style = base + self.get_component_rich_style("settings--group")
            return Strip([Segment(f" {line}", style)]).adjust_cell_length(width, base)
        value, origin = self.value_of(line)
        missing = self.wrong.get(line.key) == MISSING
        changed = origin == "set here" and value != line.default
        if missing:
            tone, mark = "missing", "○"
        elif line.key in self.wrong and origin:
            tone, mark = "wrong", "!"
        else:
            tone, mark = ("changed", "•") if changed else ("default", " ")
        if index == self.cursor:
            base = base + self.get_component_rich_style("settings--cursor")
        room, roomy = max(10, width - 32 - 14), width >= _ROOMY
        if roomy:
            room = 26
        text = MISSING if missing else displayed(value)
        if len(text) > room:
            text = text[: room - 1] + "…"
        style = self._toned(base, tone)
        cells = [Segment(f" {mark} {line.key:<28} {text:<{room}} {origin:<12}", style)]
        if roomy:
            said, left = line.explanation, max(1, width - 48 - room)
            said = said if len(said) <= left else f"{said[: left - 1]}…"
            cells.append(Segment(f" {said}", self._toned(base, "explained")))
        return Strip(cells).adjust_cell_length(width, base)

    def value_of(self, setting: Setting) -> tuple[object, str]:
        """What holds of a setting, and who decided it: "" for the default."""
        if setting.key in self.values:
            return self.values[setting.key], "set here"
        if (given := self.inherited.get(setting.key)) is not None:
            return given.value, given.origin
        return setting.default, ""

    def _toned(self, base: Style, tone: str) -> Style:
        style = self.get_component_rich_style(f"settings--{tone}")
        return base + Style(color=style.color, bold=style.bold, dim=style.dim)
