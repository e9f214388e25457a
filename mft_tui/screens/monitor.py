"""The monitor: one run as it goes, or as it went; several behind tabs."""

import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Horizontal, Vertical
from textual.screen import Screen
from textual.widgets import Static

from db.records import LIVE_STATUSES, MetricPoint, NoticeRecord, RunRecord, RunRow
from mft_tui.screens.machine import MachineWatch, goes_on_here, recorded_machine
from mft_tui.screens.monitor_panes import Pane, is_validation, pane_for
from mft_tui.screens.run_facts import Validation, estimated_memory, read_validation, run_facts
from mft_tui.widgets.facts import Facts
from mft_tui.widgets.gpu_table import GpuTable
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.key_line import KeyLine
from mft_tui.widgets.log_pane import LogPane
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.quantities import bar, span
from mft_tui.widgets.run_columns import STATUS_MARKS, remaining, status_of
from mft_tui.widgets.title_bar import TitleBar
from runners.lifecycle.folders import RunFolder
from runners.lifecycle.resumption import resumed_steps

if TYPE_CHECKING:
    from pathlib import Path

    from db import Store
    from mft_tui.app import MftApp
    from runners.hardware.gpus import Gpu
    from runners.hardware.sampler import GpuSampler

_LOOK = 0.5
_ROOMY_WIDTH, _ROOMY_HEIGHT = 110, 32
_VIEWS = ("", "pane", "log", "side")


class MonitorScreen(Screen[None]):
    """A run as it goes: charts, tasks, machine, events and its log."""

    CSS_PATH = "monitor.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "leave", "Back", id="monitor.back"),
        Binding("1", "view('')", "All", show=False, id="monitor.all"),
        Binding("2", "view('log')", "Log", id="monitor.log"),
        Binding("3", "view('side')", "Machine", id="monitor.side"),
        Binding("4", "view('pane')", "Charts", show=False, id="monitor.pane"),
        Binding(
            "right_square_bracket",
            "next(1)",
            "Next run",
            show=False,
            key_display="]",
            id="monitor.next",
        ),
        Binding(
            "left_square_bracket",
            "next(-1)",
            "Previous run",
            show=False,
            key_display="[",
            id="monitor.previous",
        ),
        Binding("s", "stop", "Stop", id="monitor.stop"),
        Binding("u", "resume", "Resume", id="monitor.resume"),
        Binding("x", "export", "Export", id="monitor.export"),
        Binding("c", "copy", "Copy command", show=False, id="monitor.copy"),
    ]

    def __init__(self, run_ids: Sequence[str]) -> None:
        super().__init__()
        self._ids = list(run_ids)
        self._place = 0
        self.run: RunRecord | None = None
        self._runs: dict[str, RunRecord] = {}
        self._latest: dict[str, MetricPoint] = {}
        self._version: object = None
        self._looking = False
        self._view = ""
        self._has_room = False
        self._needs: int | None = None
        self._validation: Validation | None = None
        self._validated: object = None
        self._machine = MachineWatch(_detect_gpus, _open_sampler)
        self._recorded: str | None = None

    @property
    def _app(self) -> "MftApp":
        return cast("MftApp", self.app)

    def compose(self) -> ComposeResult:
        yield TitleBar()
        yield Static(id="tabs")
        with Vertical(id="body"), Horizontal(id="work"):
            with Vertical(id="pane"):
                yield Facts(id="top")
            with Vertical(id="side"):
                yield Facts(id="facts")
                yield Static("machine", classes="head", id="machine")
                yield GpuTable()
                yield Static("events", classes="head")
                yield Static(id="events")
        yield KeyLine()

    def on_mount(self) -> None:
        self._app.preferences.monitoring = list(self._ids)
        self._app.remember()
        self._open()
        self.set_interval(_LOOK, self._look)
        self.set_interval(2.0, self._sample)

    def on_resize(self) -> None:
        size = self.app.size
        self._has_room = size.width >= _ROOMY_WIDTH
        self.set_class(self._has_room and size.height >= _ROOMY_HEIGHT, "-roomy")

    @on(LogPane.Counted)
    def _fit_log(self, event: LogPane.Counted) -> None:
        """Leave what a short log does not need to the rest."""
        event.stop()
        event.pane.styles.max_height = None if self._view == "log" else event.rows + 2

    # Which run

    @property
    def run_id(self) -> str:
        """The run that is shown."""
        return self._ids[self._place]

    @guarded(group="open", exclusive=True)
    async def _open(self) -> None:
        from db.errors import StoreError

        try:
            self._runs = await self._app.tracker.ask(self._read_runs)
        except StoreError as error:
            self.notify(str(error), severity="error")
            self.dismiss()
            return
        self.run = self._runs[self.run_id]
        self.set_class(len(self._ids) > 1, "-several")
        await self.query("TrainPane, TasksPane, PlainPane, LogPane").remove()
        console = RunFolder(_folder(self.run)).console
        await self.query_one("#pane").mount(pane_for(self.run.kind))
        await self.query_one("#body").mount(LogPane(console, self._app.lanes["log"]))
        self.call_after_refresh(self._focus)
        self._version = self._needs = self._recorded = None
        self._look()
        self._sample()
        if self.run.kind == "train":
            self._estimate(self.run)

    def _read_runs(self, store: "Store") -> dict[str, RunRecord]:
        return {run_id: store.get_run(run_id) for run_id in self._ids}

    def _focus(self) -> None:
        wanted = "LogView" if self._view == "log" else "MetricChart, TaskRows, LogView"
        for widget in self.query(wanted):
            if widget.is_on_screen:
                widget.focus()
                return
        self.set_focus(None)

    def action_next(self, step: int) -> None:
        if len(self._ids) > 1:
            self._place = (self._place + step) % len(self._ids)
            self._open()

    def action_view(self, view: str) -> None:
        """Show everything there is room for, or one part alone."""
        self._view = "" if view == self._view else view
        for name in _VIEWS[1:]:
            self.set_class(self._view == name, f"-view-{name}")
        for pane in self.query(LogPane):
            pane.count_again()
        self.call_after_refresh(self._focus)
        self.call_after_refresh(self._sample)

    # Looking

    def _look(self) -> None:
        if self.run is not None and self.is_current and not self._looking:
            self._looking = True
            self._look_once()

    @guarded(group="look")
    async def _look_once(self) -> None:
        try:
            await self._look_and_tell()
        finally:
            self._looking = False

    async def _look_and_tell(self) -> None:
        assert self.run is not None
        version = self._app.tracker.version()
        if version == self._version:
            if self.run.status in LIVE_STATUSES:
                self._tell()
                if any(pane.follows_files for pane in self._panes):
                    await self._show_pane()
            return
        run_id = self.run.id
        runs, latest, notices = await self._app.tracker.ask(
            lambda store: (
                self._read_runs(store),
                store.latest_metrics(run_id),
                store.notices(run_id),
            )
        )
        if run_id != self.run.id:
            return
        self._version = version
        self._runs, self.run, self._latest = runs, runs[run_id], latest
        self._tell()
        self._tell_events(notices)
        self._tell_resumed(notices)
        await self._show_pane()
        await self._show_facts()
        self.refresh_bindings()

    @property
    def _panes(self) -> "list[Pane]":
        return list(self.query("TrainPane, TasksPane, PlainPane").results())  # type: ignore[arg-type]

    async def _show_pane(self) -> None:
        for pane in self._panes:
            if self.run is not None:
                await pane.show(self.run, self._latest)

    def _tell(self) -> None:
        if (run := self.run) is None:
            return
        now, row = self._app.clock(), RunRow(run)
        status = status_of(row, now)
        mark, _ = STATUS_MARKS.get(status, ("·", ""))
        title = self.query_one(TitleBar)
        title.title = f"{run.kind}  {run.name or run.model_name or run.id}"
        words = []
        if run.total:
            share = (run.done or 0) / run.total
            done = f"{run.done or 0:,}/{run.total:,}"
            if self._has_room:
                done += f" {run.unit or run.stage}  {bar(share, 10)}"
            words.append(f"{done} {share:.0%}")
        told = self._latest.get("seconds_left")
        left = told.value if told and run.status == "running" else remaining(row, now)
        if left is not None:
            words.append(f"{span(left)} left")
        if run.attempt > 1:
            words.append(f"attempt {run.attempt}")
        words.append(f"{mark} {status}")
        title.status = Text(" · ".join(words))
        self._tell_tabs(now)

    def _tell_tabs(self, now: float) -> None:
        """The runs side by side: how each stands and its name, with the id where names repeat."""
        names = [run.name or run.model_name or run.id for run in self._runs.values()]
        tabs = Text()
        for place, run in enumerate(self._runs.values()):
            mark, _ = STATUS_MARKS.get(status_of(RunRow(run), now), ("·", ""))
            name = names[place]
            if names.count(name) > 1:
                name = f"{name} {run.id}"
            tabs.append(f" {mark} {name} ", "reverse" if place == self._place else "")
            tabs.append("  ")
        self.query_one("#tabs", Static).update(tabs)

    def _tell_events(self, notices: list[NoticeRecord]) -> None:
        text = Text()
        for notice in reversed(notices[-30:]):
            at = time.strftime("%H:%M:%S", time.localtime(notice.at))
            tone = {"error": "bold", "warning": "bold"}.get(notice.level, "")
            text.append(f"{at} ", "dim")
            text.append(f"{notice.text}\n", tone)
        if self.run is not None and self.run.message and not notices:
            text.append(self.run.message)
        self.query_one("#events", Static).update(text if text else Text("none", "dim"))

    def _tell_resumed(self, notices: list[NoticeRecord]) -> None:
        """Mark on the charts where the run went on from a checkpoint."""
        steps = resumed_steps(notice.text for notice in notices)
        for chart in self.query(MetricChart):
            chart.resumed = steps

    async def _show_facts(self) -> None:
        assert self.run is not None
        run, latest = self.run, self._latest
        seen = (run.id, [(key, latest[key].step) for key in latest if is_validation(key)])
        if seen != self._validated:
            self._validation = await self._app.tracker.ask(
                lambda store: read_validation(store, run, latest)
            )
            self._validated = seen
        facts = run_facts(run, latest, self._validation, self._needs, self._app.clock())
        for panel in self.query(Facts):  # none when the app was left while this was read
            panel.show(facts[:6] if panel.id == "top" else facts)

    @guarded(group="estimate", exclusive=True)
    async def _estimate(self, run: RunRecord) -> None:
        self._needs = await self._app.lanes["data"].call(estimated_memory, run)
        if self.run is not None and self.run.id == run.id:
            await self._show_facts()

    # The machine

    @guarded(group="sample", exclusive=True)
    async def _sample(self) -> None:
        table, run = self.query_one(GpuTable), self.run
        if run is None or not self.is_current or not table.is_on_screen:
            return
        head = self.query_one("#machine", Static)
        if goes_on_here(run):
            look = await self._app.lanes["machine"].call(self._machine.look)
            head.update("machine")
            table.show(look.gpus, look.samples, empty=look.words)
        elif self._recorded != run.id:
            # What this machine does now says nothing of a run that is over, or elsewhere.
            words = await self._app.lanes["files"].call(recorded_machine, run)
            self._recorded = run.id
            head.update(Text(f"machine, {run.host} when launched" if run.host else "machine"))
            table.show((), empty=words)

    def on_unmount(self) -> None:
        self._app.lanes["machine"].post(self._machine.close)

    # Acting

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if self.run is None or action not in ("stop", "resume", "export"):
            return True
        if action == "stop":
            return self.run.status in LIVE_STATUSES
        if action == "resume":
            return self.run.status in ("stopped", "failed", "crashed")
        return self.run.kind != "export"

    @guarded(group="act")
    async def action_stop(self) -> None:
        from mft_tui.screens.actions import stop_run

        await stop_run(self._app, self.run_id)

    @guarded(group="act")
    async def action_resume(self) -> None:
        from mft_tui.screens.actions import resume_run

        if self.run is not None:
            await resume_run(self._app, self.run)

    @guarded(group="act")
    async def action_export(self) -> None:
        from mft_tui.screens.actions import export_run

        if self.run is not None:
            await export_run(self._app, self.run)

    def action_copy(self) -> None:
        self.app.copy_to_clipboard(f"mft-tui attach {self.run_id}")
        self.notify("Command copied", timeout=2)

    def action_leave(self) -> None:
        """Back to where the person came from; the run goes on."""
        if self._view:
            self.action_view(self._view)
            return
        self._app.preferences.monitoring = []
        self._app.remember()
        self.dismiss()


def _folder(run: RunRecord) -> "Path":
    from pathlib import Path

    return Path(run.folder)


def _detect_gpus() -> "tuple[Gpu, ...]":
    from runners.hardware.probe import detect

    return detect().gpus


def _open_sampler() -> "GpuSampler":
    from runners.hardware.sampler import GpuSampler

    return GpuSampler().__enter__()
