"""The rail: the eight steps, how each stands, and where one is."""

from collections.abc import Mapping
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from mft_tui.screens.wizard.draft import STEPS

MARKS = {"todo": "○", "ok": "✓", "problem": "!", "running": "●"}


class Rail(Widget, can_focus=True):
    """A column of steps."""

    DEFAULT_CSS = """
    Rail { width: 14; height: 1fr; padding: 1 1; background: $surface; color: $text-muted; }
    Rail:focus { background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="rail.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="rail.down"),
        Binding("enter,right", "enter", "Go there", show=False, id="rail.enter"),
    ]

    step: reactive[str] = reactive("data")

    class Chosen(Message):
        """Another step was chosen; ``enter`` when its page should get the focus."""

        def __init__(self, step: str, *, enter: bool = False) -> None:
            super().__init__()
            self.step, self.enter = step, enter

    def __init__(self) -> None:
        super().__init__()
        self._states: dict[str, str] = {}

    def show(self, states: Mapping[str, str]) -> None:
        """How each step stands: a key of ``MARKS``."""
        self._states = dict(states)
        self.refresh()

    def render(self) -> RenderResult:
        lines = []
        for step in STEPS:
            mark = MARKS[self._states.get(step, "todo")]
            here = step == self.step
            line = Text(f"{mark} {step.capitalize():<10}")
            if here:
                line.stylize("bold reverse" if self.has_focus else "bold")
            lines.append(line)
            lines.append(Text(""))
        return Text("\n").join(lines if self.size.height >= 18 else lines[::2])

    def action_move(self, step: int) -> None:
        place = STEPS.index(self.step) + step
        if 0 <= place < len(STEPS):
            self.post_message(self.Chosen(STEPS[place]))

    def action_enter(self) -> None:
        self.post_message(self.Chosen(self.step, enter=True))

    def on_click(self, event: events.Click) -> None:
        row = (event.y - 1) // (2 if self.size.height >= 18 else 1)
        if 0 <= row < len(STEPS):
            self.post_message(self.Chosen(STEPS[row], enter=True))
