"""Every setting of a job in one list: searched, explained, checked as it is typed.

Eighty input widgets would be slow to mount and endless to scroll; here a setting is a line, and one
editing line at the bottom serves them all.
"""

from collections.abc import Mapping

from rich.text import Text
from textual import events, on
from textual.app import ComposeResult
from textual.containers import Vertical
from textual.message import Message
from textual.widgets import Input, Static

from mft_tui.widgets.config_fields import (
    Inherited,
    Setting,
    displayed,
    problems,
    settings_of,
    shown,
    typed,
)
from mft_tui.widgets.setting_list import SettingList


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
