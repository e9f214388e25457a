"""The keys of the screen beneath, with the ids that remap them."""

from typing import ClassVar

from rich.table import Table
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import ModalScreen, Screen
from textual.widgets import Static


class HelpScreen(ModalScreen[None]):
    """Every key that works where ``?`` was pressed."""

    DEFAULT_CSS = """
    HelpScreen { align: center middle; }
    HelpScreen > VerticalScroll {
        width: 78; max-width: 98%; height: auto; max-height: 92%;
        padding: 0 1; scrollbar-size-vertical: 1;
        background: $panel; border: round $primary;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,question_mark,q", "app.pop_screen", "Close", id="help.close"),
    ]

    def __init__(self, beneath: Screen[object]) -> None:
        super().__init__()
        self._beneath = beneath

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(self._words())

    def _words(self) -> Table:
        table = Table.grid(padding=(0, 2), expand=True)
        table.add_column(no_wrap=True)
        table.add_column(ratio=1)
        table.add_column(no_wrap=True, style="dim")
        said = type(self._beneath).__doc__ or ""
        table.add_row(Text("keys", "bold"), Text(said.strip().splitlines()[0] if said else ""), "")
        table.add_row("", "", "")
        rows: dict[str, tuple[list[str], Binding]] = {}
        found = list(self._beneath.active_bindings.values())
        # The screen's own keys first, those of the focused widget and the app after them.
        found.sort(key=lambda active: active.node is not self._beneath)
        for active in found:
            binding = active.binding
            if not binding.description or not binding.id:
                continue  # what Textual itself brings: scrolling, focus
            keys = rows.setdefault(binding.description, ([], binding))[0]
            shown = self.app.get_key_display(binding)
            if shown not in keys:
                keys.append(shown)
        for description, (keys, binding) in rows.items():
            table.add_row(Text(" ".join(keys), "bold"), description, binding.id or "")
        table.add_row("", "", "")
        table.add_row(
            "",
            Text(
                'Keys are remapped in app.json of the state folder: {"keys": {"id": "key"}}.', "dim"
            ),
            "",
        )
        return table
