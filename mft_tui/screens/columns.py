"""Choosing the columns of the run table."""

from typing import ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import SelectionList, Static

from mft_tui.widgets.run_columns import COLUMNS


class ColumnsScreen(ModalScreen[list[str] | None]):
    """Space turns a column on or off, enter keeps the choice."""

    DEFAULT_CSS = """
    ColumnsScreen { align: center middle; }
    ColumnsScreen > Vertical {
        width: 40; height: auto; padding: 1 2; background: $panel; border: round $primary;
    }
    ColumnsScreen SelectionList { height: auto; max-height: 14; border: none; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "keep", "Keep", priority=True, id="columns.keep"),
        Binding("escape", "give_up", "Cancel", id="columns.cancel"),
    ]

    def __init__(self, chosen: list[str]) -> None:
        super().__init__()
        self._chosen = chosen

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static("[b]Columns[/b]  space to choose, enter to keep")
            yield SelectionList[str](
                *((column.title, column.key, column.key in self._chosen) for column in COLUMNS)
            )

    def action_keep(self) -> None:
        selected = self.query_one(SelectionList).selected
        self.dismiss([column.key for column in COLUMNS if column.key in selected] or None)

    def action_give_up(self) -> None:
        self.dismiss(None)
