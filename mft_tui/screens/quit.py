"""Leaving while jobs run: say what happens to them."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.content import Content
from textual.screen import ModalScreen
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option


class QuitScreen(ModalScreen[str | None]):
    """Detach, stop, or stay: the answer is "detach", "stop" or None."""

    DEFAULT_CSS = """
    QuitScreen { align: center middle; }
    QuitScreen > Vertical {
        width: 62; max-width: 96%; height: auto; padding: 1 2; background: $panel;
        border: round $primary;
    }
    QuitScreen OptionList { height: auto; background: $panel; margin-top: 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("d,q", "answer('detach')", "Detach", id="quit.detach"),
        Binding("s", "answer('stop')", "Stop", id="quit.stop"),
        Binding("escape", "answer('stay')", "Stay", id="quit.stay"),
    ]

    def __init__(self, names: list[str]) -> None:
        super().__init__()
        self._names = names

    def compose(self) -> ComposeResult:
        what = self._names[0] if len(self._names) == 1 else f"{len(self._names)} runs"
        with Vertical():
            # Never as markup: a person may name a run what they like.
            going = "is still going." if len(self._names) == 1 else "are still going."
            yield Static(Content.assemble((what, "bold"), f" {going}"))
            yield OptionList(
                Option("[b]d[/b]  Detach: leave, the job goes on", id="detach"),
                Option("[b]s[/b]  Stop: ask it to stop, then leave", id="stop"),
                Option("[b]esc[/b]  Stay here", id="stay"),
            )

    def on_option_list_option_selected(self, event: OptionList.OptionSelected) -> None:
        self.action_answer(event.option.id or "stay")

    def action_answer(self, answer: str) -> None:
        self.dismiss(None if answer == "stay" else answer)
