"""A line for a path that completes itself: tab takes the suggestion, the file system is asked in a
lane."""

import os
from pathlib import Path
from typing import ClassVar

from textual.binding import Binding, BindingType
from textual.suggester import Suggester
from textual.widgets import Input

from mft_tui.widgets.lanes import Lane


def complete_path(text: str, *, folders_only: bool) -> str | None:
    """The text with the first entry that begins like it, or None; folders get a slash."""
    head, typed = os.path.split(text)
    folder = Path(head or ".").expanduser()
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return None
    for entry in entries:
        if not entry.name.startswith(typed) or (entry.name.startswith(".") and not typed):
            continue
        is_folder = entry.is_dir()
        if folders_only and not is_folder:
            continue
        whole = os.path.join(head, entry.name) if head else entry.name  # noqa: PTH118
        return f"{whole}/" if is_folder else whole
    return None


class _Paths(Suggester):
    def __init__(self, lane: Lane, *, folders_only: bool) -> None:
        super().__init__(use_cache=False, case_sensitive=True)
        self._lane, self._folders_only = lane, folders_only

    async def get_suggestion(self, value: str) -> str | None:
        return await self._lane.call(complete_path, value, folders_only=self._folders_only)


class PathInput(Input):
    """One line; Tab completes as a shell does, and moves on when there is nothing to complete."""

    DEFAULT_CSS = """
    PathInput { height: 1; border: none; padding: 0 1; background: $boost; }
    PathInput:focus { border: none; background: $panel; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("tab", "complete", "Complete", show=False, id="path.complete"),
    ]

    def __init__(
        self,
        lane: Lane,
        value: str = "",
        *,
        placeholder: str = "",
        folders_only: bool = True,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(
            value,
            placeholder=placeholder,
            suggester=_Paths(lane, folders_only=folders_only),
            select_on_focus=False,
            id=id,
        )

    def action_complete(self) -> None:
        """Take the suggestion, or go on to the next widget."""
        suggestion = self._suggestion
        if suggestion and suggestion != self.value and self.value:
            self.value = suggestion
            self.cursor_position = len(suggestion)
        else:
            self.screen.focus_next()
