"""Every setting of a job in one list: searched, explained, checked as it is typed.

Eighty input widgets would be slow to mount and endless to scroll; here a setting is a line, and one
editing line at the bottom serves them all.
"""

from collections.abc import Mapping
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip
from textual.widgets import Input, Static

from mft_tui.widgets.config_fields import (
    MISSING,
    Inherited,
    Setting,
    displayed,
    problems,
    settings_of,
    shown,
    typed,
)

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


class ConfigForm(Vertical):
    """The list, what the setting under the cursor means, and the line to change it."""

    DEFAULT_CSS = """
    ConfigForm { height: 1fr; }
    ConfigForm > Input { height: 1; border: none; padding: 0 1; display: none; background: $boost; }
    ConfigForm > Input.-asked { display: block; }
    ConfigForm > #about { height: 4; padding: 0 1; background: $surface; }
    """

    class Changed(Message):
        """A value was set or reset."""

        def __init__(self, form: "ConfigForm", key: str) -> None:
            super().__init__()
            self.form, self.key = form, key

    def __init__(
        self,
        kind: str,
        values: Mapping[str, object],
        *,
        groups: tuple[str, ...] = (),
        inherited: Mapping[str, Inherited] | None = None,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self.kind = kind
        self.values: dict[str, object] = dict(values)
        wanted = [s for s in settings_of(kind) if not groups or s.group in groups]
        in_order = list(dict.fromkeys(s.group for s in wanted))
        self._settings = sorted(wanted, key=lambda s: in_order.index(s.group))
        self._inherited = dict(inherited or {})
        self._search = ""
        self._only_changed = False
        self._asked = ""

    def compose(self) -> ComposeResult:
        yield Input(id="search", placeholder="search keys and explanations", select_on_focus=True)
        yield SettingList()
        yield Static(id="about")
        yield Input(id="edit", select_on_focus=True)

    def on_mount(self) -> None:
        self.query_one(SettingList).inherited = self._inherited
        self._renew()

    @property
    def lines(self) -> SettingList:
        """The list."""
        return self.query_one(SettingList)

    def replace(self, values: Mapping[str, object]) -> None:
        """Other values altogether: a file was loaded."""
        self.values = dict(values)
        self._renew()

    def _renew(self) -> None:
        words = self._search.lower().split()
        chosen: list[Setting | str] = []
        group = ""
        for setting in self._settings:
            text = f"{setting.key} {setting.group} {setting.explanation}".lower()
            changed = setting.key in self.values and self.values[setting.key] != setting.default
            if not all(word in text for word in words):
                continue
            if self._only_changed and not (changed or setting.required):
                continue
            if setting.group != group:
                group = setting.group
                chosen.append(group)
            chosen.append(setting)
        self._check()
        self.lines.show(chosen)

    def _check(self) -> None:
        lines = self.lines
        lines.values, lines.wrong = self.values, self.wrong
        lines.refresh()

    @property
    def wrong(self) -> dict[str, str]:
        """What is wrong, by key."""
        return self._problems(self.values)

    def _problems(self, values: Mapping[str, object]) -> dict[str, str]:
        given = {key: one.value for key, one in self._inherited.items()}
        return problems(self.kind, {**given, **values})

    @on(SettingList.Moved)
    def _explain(self, event: SettingList.Moved | None = None) -> None:
        setting = self.lines.setting
        about = self.query_one("#about", Static)
        if setting is None:
            about.update(Text("no setting matches", "dim"))
            return
        text = Text(setting.explanation)
        said = [] if setting.required else [f"default {displayed(setting.default)}"]
        if setting.choices:
            said.append("one of " + ", ".join(shown(choice) for choice in setting.choices))
        if setting.limits:
            said.append(setting.limits)
        text.append("\n" + " · ".join(said), "dim")
        wrong = self.lines.wrong.get(setting.key) or self.lines.wrong.get("")
        if wrong and (self.lines.value_of(setting)[1] or "" in self.lines.wrong):
            text.append(f"\n{wrong}", "bold")
        about.update(text)

    @on(SettingList.Wanted)
    def _do(self, event: SettingList.Wanted) -> None:
        event.stop()
        setting = self.lines.setting
        if event.what == "search":
            self._open("search")
        elif event.what == "differences":
            self._only_changed = not self._only_changed
            self._renew()
        elif setting is None:
            return
        elif event.what == "reset":
            self.values.pop(setting.key, None)
            self._changed(setting.key)
        elif setting.choices and (event.what == "cycle" or setting.is_flag):
            self._cycle(setting, event.step or 1)
        elif event.what == "edit":
            line = self._open("edit")
            line.value = shown(self.lines.value_of(setting)[0])
            if line.value == "none":
                line.value = ""
            line.placeholder = setting.key
            line.cursor_position = len(line.value)

    def _cycle(self, setting: Setting, step: int) -> None:
        now, _ = self.lines.value_of(setting)
        place = setting.choices.index(now) if now in setting.choices else -1
        self.values[setting.key] = setting.choices[(place + step) % len(setting.choices)]
        self._changed(setting.key)

    def _open(self, what: str) -> Input:
        line = self.query_one(f"#{what}", Input)
        line.add_class("-asked")
        line.focus()
        return line

    def _close(self, what: str) -> None:
        self.query_one(f"#{what}", Input).remove_class("-asked")
        self.lines.focus()

    @on(Input.Changed, "#search")
    def _searching(self, event: Input.Changed) -> None:
        event.stop()
        self._search = event.value
        self._renew()

    @on(Input.Submitted, "#search")
    def _searched(self, event: Input.Submitted) -> None:
        event.stop()
        if not event.value:
            self.query_one("#search", Input).remove_class("-asked")
        self.lines.focus()

    @on(Input.Changed, "#edit")
    def _typing(self, event: Input.Changed) -> None:
        event.stop()
        setting = self.lines.setting
        if setting is None or not event.input.has_class("-asked"):
            return
        wrong = self._try(setting, event.value)
        text = Text(setting.explanation)
        text.append(f"\n{wrong}" if wrong else "\nfits", "bold" if wrong else "dim")
        self.query_one("#about", Static).update(text)

    def _try(self, setting: Setting, text: str) -> str:
        found = self._problems({**self.values, setting.key: typed(setting, text)})
        return found.get(setting.key) or found.get("") or ""

    @on(Input.Submitted, "#edit")
    def _typed(self, event: Input.Submitted) -> None:
        event.stop()
        self._take(event.value)

    def _take(self, text: str) -> bool:
        """Set the setting under the cursor to a text; say so, and keep the line, if it is wrong."""
        setting = self.lines.setting
        if setting is None:
            return False
        value = typed(setting, text)
        if found := self._problems({**self.values, setting.key: value}).get(setting.key):
            self.notify(f"{setting.key}: {found}", severity="warning")
            return False
        self.values[setting.key] = value
        self._close("edit")
        self._changed(setting.key)
        return True

    def finish(self) -> None:
        """Take what stands in the editing line, as the form is left; what is wrong is dropped."""
        line = self.query_one("#edit", Input)
        if line.has_class("-asked") and not self._take(line.value):
            self._close("edit")

    def _changed(self, key: str) -> None:
        self._check()
        self._explain()
        self.post_message(self.Changed(self, key))

    def on_key(self, event: events.Key) -> None:
        if event.key != "escape":
            return
        for what in ("edit", "search"):
            line = self.query_one(f"#{what}", Input)
            if line.has_class("-asked"):
                event.stop()
                line.value = ""
                self._close(what)
                self._explain()
                return
