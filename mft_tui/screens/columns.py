"""Choosing the columns of the run table."""

from typing import ClassVar

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Input, Static
from textual.widgets.selection_list import Selection

from mft_tui.widgets.check_list import CheckList
from mft_tui.widgets.run_columns import COLUMNS, columns_of


class ColumnsScreen(ModalScreen[list[str] | None]):
    """Space turns a column on or off, enter keeps the choice; any metric or setting can be one."""

    DEFAULT_CSS = """
    ColumnsScreen { align: center middle; }
    ColumnsScreen > Vertical {
        width: 48; height: auto; padding: 1 2; background: $panel; border: round $primary;
    }
    ColumnsScreen CheckList { height: auto; max-height: 14; border: none; background: $panel; }
    ColumnsScreen Input { margin-top: 1; background: $surface; }
    ColumnsScreen .hint { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", "Keep", priority=True, id="columns.keep"),
        Binding("a", "add", "Add a metric or setting", id="columns.add"),
        Binding("escape", "give_up", "Cancel", id="columns.cancel"),
    ]

    def __init__(self, chosen: list[str]) -> None:
        super().__init__()
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        known = {column.key: column for column in (*COLUMNS, *columns_of(self._chosen))}
        with Vertical():
            yield Static("[b]Columns[/b]  space to choose, enter to keep")
            yield CheckList(
                *((Text(c.title), c.key, c.key in self._chosen) for c in known.values())
            )
            yield Input(placeholder="a to add: loss, config.seed, pass@1.mbpp")

    def action_add(self) -> None:
        self.query_one(Input).focus()

    def action_keep(self) -> None:
        choices, line = self.query_one(CheckList), self.query_one(Input)
        if line.has_focus and (key := line.value.strip()):
            known = {choices.get_option_at_index(n).value for n in range(choices.option_count)}
            if key not in known:
                choices.add_option(Selection(Text(columns_of([key])[0].title), key))
            choices.select(key)
            line.value = ""
            choices.focus()
            return
        selected = set(choices.selected)
        order = [choices.get_option_at_index(n).value for n in range(choices.option_count)]
        self.dismiss([key for key in order if key in selected] or None)

    def action_give_up(self) -> None:
        self.dismiss(None)
