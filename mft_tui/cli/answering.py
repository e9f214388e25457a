"""What a person sees while a command follows a generation: every task, and the last completions.

Read from the files that the job appends to, as the app does; the line at the bottom with the rates
and the time left is that of any run.
"""

import json
import time
from collections.abc import Callable
from pathlib import Path

from rich.columns import Columns
from rich.console import Console, RenderableType
from rich.text import Text

from mft_tui.cli.following import LiveDisplay
from mft_tui.widgets.task_files import Sighting, TaskFiles, TaskState, task_totals
from runners.lifecycle.events import AnyEvent, Progress
from runners.lifecycle.folders import RunFolder

_LOOK_SECONDS = 0.5
_COMPLETIONS = 4
_BAR_WIDTH = 10


class AnsweringDisplay(LiveDisplay):
    """The live line of a run, and above it what a generation is doing, once it has started."""

    def __init__(
        self,
        console: Console,
        label: str,
        folder: RunFolder,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder = folder
        self._clock = clock
        self._looked = float("-inf")
        self._files: TaskFiles | None = None
        super().__init__(console, label)

    def event(self, event: AnyEvent) -> None:
        """Show what the job told; see ``Display``."""
        # Progress, not the start: whoever attaches late has not seen that.
        if self._files is None and isinstance(event, Progress) and event.stage == "generate":
            self._files = task_files(self._folder)
        super().event(event)

    def above(self) -> list[RenderableType]:
        """A cell a task, and the last completions with what ended them."""
        if self._files is None:
            return []
        if self._clock() - self._looked >= _LOOK_SECONDS:
            self._looked = self._clock()
            self._files.look()
        cells = [task_cell(state) for state in self._files.tasks.values()]
        recent = list(self._files.recent)[-_COMPLETIONS:]
        return [Columns(cells, padding=(0, 3)), *map(completion_line, recent)]


def task_files(folder: RunFolder) -> TaskFiles:
    """The completions files of a generation run, each task with its number of questions."""
    config = json.loads(folder.config.read_bytes())
    place = Path(config.get("output_dir") or folder.artifacts)
    totals = task_totals(config, "generate")
    tasks = {task: TaskState(task, total) for task, total in totals.items()}
    return TaskFiles(place, "completions", tasks, config["model_name"])


def task_cell(state: TaskState) -> Text:
    """A task's name, a bar and its count."""
    filled = min(_BAR_WIDTH, _BAR_WIDTH * state.done // max(1, state.total))
    cell = Text(f"{state.task:<27}", style="dim" if state.done == state.total else "")
    cell.append("━" * filled, style="green")
    cell.append("━" * (_BAR_WIDTH - filled), style="bright_black")
    return cell.append(f" {state.done:>3}/{state.total}")


def completion_line(one: Sighting) -> Text:
    """A completion on one line: its question, what ended it, and how it begins."""
    line = Text(f"{one.task} {one.index}  ", no_wrap=True, overflow="ellipsis")
    line.append(f"{one.status}  ", style="cyan")
    return line.append(" ⏎ ".join(one.text.strip().splitlines()[:6]), style="dim")
