"""The thirteen tasks as thirteen rows: a bar each, and pass@1 where there is one."""

from collections.abc import Sequence
from typing import ClassVar

from rich.segment import Segment
from rich.style import Style
from textual.binding import Binding, BindingType
from textual.geometry import Size
from textual.message import Message
from textual.reactive import reactive
from textual.scroll_view import ScrollView
from textual.strip import Strip

from mft_tui.widgets.quantities import bar
from mft_tui.widgets.task_files import TaskState


class TaskRows(ScrollView, can_focus=True):
    """A cursor over tasks."""

    DEFAULT_CSS = """
    TaskRows { height: auto; max-height: 17; background: $surface; border: round $border-blurred;
        border-title-color: $text-muted; border-subtitle-color: $text-muted; }
    TaskRows:focus { border: round $primary; }
    TaskRows > .tasks--cursor { background: $primary 25%; text-style: bold; }
    TaskRows > .tasks--bar { color: $primary; }
    TaskRows > .tasks--done { color: $success; }
    TaskRows > .tasks--muted { color: $text-muted; }
    """
    COMPONENT_CLASSES: ClassVar[set[str]] = {
        "tasks--cursor",
        "tasks--bar",
        "tasks--done",
        "tasks--muted",
    }
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up,k", "move(-1)", "Up", show=False, id="tasks.up"),
        Binding("down,j", "move(1)", "Down", show=False, id="tasks.down"),
        Binding("enter", "choose", "Failures", id="tasks.choose"),
    ]

    cursor: reactive[int] = reactive(0)

    class Chosen(Message):
        """A task was chosen."""

        def __init__(self, task: str) -> None:
            super().__init__()
            self.task = task

    def __init__(self, *, scored: bool, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._scored = scored
        self._rows: list[TaskState] = []

    def show(self, rows: Sequence[TaskState]) -> None:
        """Show these from now on."""
        fresh = [TaskState(r.task, r.total, r.done, r.passed) for r in rows]
        if fresh == self._rows:
            return
        relayout = len(fresh) != len(self._rows)
        self._rows = fresh
        self.virtual_size = Size(0, len(fresh))
        done, total = sum(r.done for r in fresh), sum(r.total for r in fresh)
        self.border_title = "tasks"
        self.border_subtitle = f"{done:,} of {total:,} questions"
        if self._scored and (means := [r.pass_at_1 for r in fresh if r.pass_at_1 is not None]):
            self.border_subtitle += f" · mean pass@1 {sum(means) / len(means):.3f}"
        self.refresh(layout=relayout)

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(1, len(self._rows))

    def action_move(self, step: int) -> None:
        self.cursor = max(0, min(len(self._rows) - 1, self.cursor + step))
        self.scroll_to(y=max(0, self.cursor - self.size.height + 1), animate=False)
        self.refresh()

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return self._scored if action == "choose" else True

    def action_choose(self) -> None:
        if self._rows:
            self.post_message(self.Chosen(self._rows[self.cursor].task))

    def render_line(self, y: int) -> Strip:
        index, width = y + int(self.scroll_y), self.size.width
        base = self.rich_style
        if index >= len(self._rows):
            return Strip.blank(width, base)
        row = self._rows[index]
        if index == self.cursor and self.has_focus:
            base = base + self.get_component_rich_style("tasks--cursor")
        counts = f"{row.done:>4}/{row.total}"
        tail = ""
        if self._scored and row.pass_at_1 is not None:
            tail = f"  {row.passed:>4} passed  {row.pass_at_1:.3f}"
        room = max(4, min(40, width - 30 - len(counts) - (25 if self._scored else 0)))
        complete = row.total > 0 and row.done >= row.total
        tone = "tasks--done" if complete else "tasks--bar"
        ground = Style(bgcolor=base.bgcolor)
        colour = self.get_component_rich_style(tone)
        line = [
            Segment(f" {row.task[:26]:<27}", base),
            Segment(bar(row.done / row.total if row.total else 0, room), colour + ground),
            Segment(f" {counts}", self.get_component_rich_style("tasks--muted") + ground),
            Segment(tail, base),
        ]
        return Strip(line).adjust_cell_length(width, base)
