"""The middle of the monitor, by kind of run: charts, tasks, or what the run wrote.

A pane is given the run and a way to ask; it reads and draws. The screen decides when.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar

from rich.text import Text
from textual import on
from textual.app import ComposeResult, RenderResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical, VerticalScroll
from textual.reactive import reactive
from textual.widget import Widget
from textual.widgets import Static

from db.records import RunRecord
from mft_tui.screens.series import Line, read_curves
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.quantities import number, size
from mft_tui.widgets.task_files import Sighting, TaskFiles, TaskState, task_totals
from mft_tui.widgets.task_rows import TaskRows

if TYPE_CHECKING:
    from db.records import MetricPoint
    from mft_tui.app import MftApp

_CURVES = 8


def train_losses(keys: list[str]) -> list[str]:
    """The keys of training losses: of all tasks together, then of each."""
    losses = [k for k in keys if "loss" in k and not is_validation(k) and "weight" not in k]
    return sorted(losses, key=lambda key: (key.count("/"), key))


def other_metrics(keys: list[str]) -> list[list[str]]:
    """What the second chart can show, best first; keys of one kind, a task each, go together."""
    losses = train_losses(keys)
    groups: dict[str, list[str]] = {}
    for key in sorted(keys):
        if key not in losses:
            kind = "validation" if is_validation(key) and "loss" in key else key.split("/")[0]
            groups.setdefault(kind, []).append(key)
    first = ("validation", "learning_rate", "lr", "tokens_per_second", "mfu", "gradient")
    order = {
        kind: next((n for n, p in enumerate(first) if kind.startswith(p)), 9) for kind in groups
    }
    return [groups[kind][:_CURVES] for kind in sorted(groups, key=lambda kind: (order[kind], kind))]


def is_validation(key: str) -> bool:
    """Whether a metric was measured on samples that are not trained on."""
    return key.startswith(("eval", "valid", "val/", "val_"))


class TrainPane(Vertical):
    """Loss by task, and a second chart that goes through the other metrics."""

    follows_files = False
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("full_stop", "turn(1)", "Metric", key_display=".", id="monitor.next_metric"),
        Binding(
            "comma", "turn(-1)", "Metric", show=False, key_display=",", id="monitor.previous_metric"
        ),
    ]
    DEFAULT_CSS = """
    TrainPane #second { height: 1fr; }
    TrainPane #loss { height: 3fr; }
    TrainPane #second { height: 2fr; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._turn = 0
        self._run: RunRecord | None = None
        self._keys: list[str] = []
        self._reached: dict[str, tuple[int, float]] = {}
        self._shown: dict[str, object] = {}
        """What each chart was last drawn from: a run, a window, the end of each curve."""
        self._groups: list[list[str]] = []

    def compose(self) -> ComposeResult:
        clock = self._app.clock
        yield MetricChart("loss", clock, id="loss")
        yield MetricChart("metric", clock, id="second")

    @property
    def _app(self) -> "MftApp":
        return self.app  # type: ignore[return-value]

    async def show(self, run: RunRecord, latest: "dict[str, MetricPoint]") -> None:
        """Draw the run as it is now."""
        self._run, self._keys = run, list(latest)
        self._reached = {key: (point.step, point.at) for key, point in latest.items()}
        self._groups = other_metrics(self._keys)
        self._turn = min(self._turn, max(0, len(self._groups) - 1))
        await self._draw("#loss", train_losses(self._keys)[:_CURVES], "loss")
        await self._draw_second()

    async def _draw_second(self) -> None:
        group = self._groups[self._turn] if self._groups else []
        await self._draw("#second", group, _group_title(group))

    async def _draw(self, chart_id: str, keys: list[str], title: str) -> None:
        assert self._run is not None
        run_id, chart = self._run.id, self.query_one(chart_id, MetricChart)
        lines = [Line(run_id, key, key.rsplit("/", 1)[-1]) for key in keys]
        window = chart.window
        asked = (run_id, window, [(key, self._reached.get(key)) for key in keys])
        if self._shown.get(chart_id) == asked:
            return  # somebody wrote to the store, but not this run, or none of this
        curves = await self._app.tracker.ask(lambda store: read_curves(store, lines, window))
        if window == chart.window:
            chart.show(curves, title, part=window is not None)
            self._shown[chart_id] = asked

    @on(MetricChart.Zoomed)
    def _look_closer(self, event: MetricChart.Zoomed) -> None:
        event.stop()
        if self._run is not None:
            self._redraw(event.chart.id == "loss")

    @guarded(group="zoom", exclusive=True)
    async def _redraw(self, loss: bool) -> None:
        if loss:
            await self._draw("#loss", train_losses(self._keys)[:_CURVES], "loss")
        else:
            await self._draw_second()

    @guarded(group="turn", exclusive=True)
    async def action_turn(self, step: int) -> None:
        if self._groups and self._run is not None:
            self._turn = (self._turn + step) % len(self._groups)
            await self._draw_second()


def _group_title(group: list[str]) -> str:
    if not group:
        return "no other metric"
    if any(is_validation(key) for key in group):
        return "validation loss"
    return group[0].split("/")[0].replace("_", " ")


class TasksPane(Vertical):
    """Generation and evaluation: a row a task, and the last that came."""

    follows_files = True

    def __init__(self, kind: str) -> None:
        super().__init__()
        self._kind = kind
        self._files: TaskFiles | None = None

    def compose(self) -> ComposeResult:
        yield TaskRows(scored=self._kind == "evaluate")
        yield Recent("last completions" if self._kind == "generate" else "last verdicts")

    @property
    def _app(self) -> "MftApp":
        return self.app  # type: ignore[return-value]

    async def show(self, run: RunRecord, latest: "dict[str, MetricPoint]") -> None:
        """Read what has come since, and draw it."""
        lane = self._app.lanes["files"]
        config: dict[str, Any] = json.loads(run.config or "{}")
        if self._files is None:
            totals = await lane.call(task_totals, config, self._kind)
            folder = Path(config.get("output_dir") or Path(run.folder, "artifacts"))
            prefix = "completions" if self._kind == "generate" else "verdicts"
            tasks = {task: TaskState(task, total) for task, total in totals.items()}
            self._files = TaskFiles(folder, prefix, tasks)
        await lane.call(self._files.look)
        rows = [TaskState(s.task, s.total, s.done, s.passed) for s in self._files.tasks.values()]
        if self._kind == "evaluate":
            scores = await self._app.tracker.ask(lambda store: store.scores(run.id))
            by_task = {score.task: score for score in scores}
            rows = [
                TaskState(r.task, s.total, s.total, s.passed)
                if (s := by_task.get(r.task)) is not None and not r.done
                else r
                for r in rows
            ]
        self.query_one(TaskRows).show(rows)
        seen = tuple(self._files.recent)
        self.query_one(Recent).blocks = (
            verdict_lines(seen, self.app.theme_variables)
            if self._kind == "evaluate"
            else completion_blocks(seen)
        )

    @on(TaskRows.Chosen)
    def _browse(self, event: TaskRows.Chosen) -> None:
        from mft_tui.screens.failures import FailuresScreen
        from mft_tui.screens.monitor import MonitorScreen

        screen = self.screen
        if self._kind == "evaluate" and isinstance(screen, MonitorScreen) and screen.run:
            self.app.push_screen(FailuresScreen(screen.run, event.task))


Block = tuple[Text, ...]


class Recent(Widget):
    """The last of something that goes on, as much as there is room for, each under its head."""

    blocks: reactive[tuple[Block, ...]] = reactive(())

    def __init__(self, title: str) -> None:
        super().__init__(id="recent")
        self.border_title = title

    def render(self) -> RenderResult:
        lines = last_of(self.blocks, max(1, self.content_size.height))
        return Text("\n", no_wrap=True, overflow="ellipsis").join(lines)


def last_of(blocks: Sequence[Block], room: int) -> list[Text]:
    """The last blocks, as many as fit; of the one that is cut its beginning, never its end."""
    lines: list[Text] = []
    for block in reversed(blocks):
        left = room - len(lines)
        if left <= 0:
            break
        lines = [*block[:left], *lines]
    return lines


def verdict_lines(seen: Sequence[Sighting], colours: Mapping[str, str]) -> tuple[Block, ...]:
    """A line a verdict: how it ended, of what, and the last line of what went wrong."""
    lines = []
    for one in seen:
        name = {"passed": "success", "wrong": "error", "sandbox_error": "error"}.get(
            one.status, "warning"
        )
        tone = colours.get(name, "").removeprefix("ansi_")
        line = Text()
        line.append(f"{one.status:<14}", tone if one.status == "passed" else f"bold {tone}")
        line.append(f"{one.task} {one.index}  ", "dim")
        line.append("".join(one.text.strip().splitlines()[-1:]), "dim")
        lines.append((line,))
    return tuple(lines)


def completion_blocks(seen: Sequence[Sighting]) -> tuple[Block, ...]:
    """The beginning of each completion under its question and what ended it."""
    blocks = []
    for one in seen:
        head = Text(f"{one.task} {one.index}", "bold")
        head.append(f"  {one.status}", "not bold dim")
        text = one.text.removesuffix("<|im_end|>").strip("\n").expandtabs(4)
        blocks.append((head, *(Text(f"  {line}") for line in text.splitlines()[:4])))
    return tuple(blocks)


class PlainPane(VerticalScroll):
    """Short jobs: what they wrote and how they ended."""

    follows_files = False

    def compose(self) -> ComposeResult:
        yield Static()

    @property
    def _app(self) -> "MftApp":
        return self.app  # type: ignore[return-value]

    async def show(self, run: RunRecord, latest: "dict[str, MetricPoint]") -> None:
        """Draw the run as it is now."""
        artifacts = await self._app.tracker.ask(lambda store: store.artifacts(run.id))
        text = Text()
        if run.message:
            text.append(f"{run.message}\n\n", "bold")
        for artifact in artifacts:
            text.append(f"{artifact.kind}  ", "bold")
            text.append(f"{size(artifact.size)}\n")
            text.append(f"  {artifact.path}\n  sha256 {artifact.sha256}\n\n", "dim")
        for key, value in json.loads(run.summary or "{}").items():
            text.append(_summary_line(key, value))
        if not text:
            text.append("nothing has been written yet", "dim")
        self.query_one(Static).update(text)


def _summary_line(key: str, value: object) -> Text:
    line = Text(f"{key:<18}", "dim")
    if isinstance(value, list) and value and all(isinstance(part, dict) for part in value):
        for part in value:
            ok = part.get("ok")
            mark = "" if ok is None else "✓ " if ok else "✗ "
            words = "  ".join(str(v) for k, v in part.items() if k != "ok")
            line.append(f"\n  {mark}{words}")
    elif isinstance(value, int | float) and not isinstance(value, bool):
        line.append(number(value), "not dim")
    else:
        line.append(str(value), "not dim")
    return line.append("\n")


Pane = TrainPane | TasksPane | PlainPane


def pane_for(kind: str) -> Pane:
    """The pane that shows a kind of run."""
    if kind == "train":
        return TrainPane()
    if kind in ("generate", "evaluate"):
        return TasksPane(kind)
    return PlainPane()
