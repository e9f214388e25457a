"""The last line of a screen: its keys, as many as there is room for, and always the key for help.

Textual's footer mounts a widget a key and cuts what is too wide, which at 80 columns is the key
that would tell the rest. This one is a single line drawn at once: the screen's own keys first, then
those of the widget in focus; what does not fit is left to the help screen.
"""

from dataclasses import dataclass
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import RenderResult
from textual.screen import Screen
from textual.widget import Widget

_HELP = "help"
_WIDE, _NARROW = 2, 1


@dataclass(frozen=True)
class Key:
    """A key as it is pressed, as it is shown, what it does, and whether it does it now."""

    key: str
    shown: str
    words: str
    enabled: bool = True

    @property
    def width(self) -> int:
        """Cells, without what separates it from the next."""
        return len(self.shown) + 1 + len(self.words)


def fitting(keys: list[Key], help_keys: list[Key], room: int) -> tuple[list[Key], int]:
    """The keys that fit into ``room`` cells with the help's at the end, and the gap between them.

    The gap shrinks before a key goes; the last keys go first.
    """
    kept = list(keys)
    if _width([*kept, *help_keys], _WIDE) <= room:
        return [*kept, *help_keys], _WIDE
    while kept and _width([*kept, *help_keys], _NARROW) > room:
        kept.pop()
    return [*kept, *help_keys], _NARROW


def _width(keys: list[Key], gap: int) -> int:
    return sum(key.width + gap for key in keys) - gap


class KeyLine(Widget):
    """One line; a click on a key presses it."""

    DEFAULT_CSS = """
    KeyLine { height: 1; dock: bottom; padding: 0 1; background: $panel; }
    KeyLine > .keys--key { color: $footer-key-foreground; text-style: bold; }
    KeyLine > .keys--off { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {"keys--key", "keys--off"}
    ALLOW_SELECT = False

    def __init__(self) -> None:
        super().__init__()
        self._places: list[tuple[int, int, Key]] = []

    def on_mount(self) -> None:
        self.screen.bindings_updated_signal.subscribe(self, self._renew)

    def on_unmount(self) -> None:
        self.screen.bindings_updated_signal.unsubscribe(self)

    def _renew(self, screen: Screen[object]) -> None:
        if self.is_attached and screen is self.screen:
            self.refresh()

    def keys(self) -> tuple[list[Key], list[Key]]:
        """The keys to show, most wanted first, and those for help."""
        found = [a for a in self.screen.active_bindings.values() if a.binding.show]
        found.sort(key=lambda active: active.node is not self.screen)
        of_action: dict[str, Key] = {}
        for active in found:
            binding = active.binding
            if binding.action not in of_action:
                shown = self.app.get_key_display(binding)
                key = Key(binding.key, shown, binding.description, active.enabled)
                of_action[binding.action] = key
        help_keys = [of_action.pop(action) for action in list(of_action) if action == _HELP]
        return list(of_action.values()), help_keys

    def render(self) -> RenderResult:
        shown, gap = fitting(*self.keys(), self.content_size.width)
        key_style = self.get_component_rich_style("keys--key", partial=True)
        off_style = self.get_component_rich_style("keys--off", partial=True)
        line = Text(no_wrap=True)
        self._places = []
        for key in shown:
            if line:
                line.append(" " * gap)
            start = line.cell_len
            line.append(key.shown, key_style if key.enabled else off_style)
            line.append(f" {key.words}", "" if key.enabled else off_style)
            self._places.append((start, line.cell_len, key))
        return line

    def on_click(self, event: events.Click) -> None:
        x = event.x - self.styles.padding.left
        for start, end, key in self._places:
            if start <= x < end:
                self.app.simulate_key(key.key)
