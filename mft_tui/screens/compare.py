"""Two or more runs side by side: what differs, how the curves went, which questions flipped."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, ClassVar, cast

from rich.table import Table
from rich.text import Text
from textual import work
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Footer, Static

from db.records import MetricPoint, RunRecord, ScoreRecord
from mft_tui.widgets.command_line import CommandLine
from mft_tui.widgets.curves import Curve
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.quantities import number
from mft_tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from db import Store
    from mft_tui.app import MftApp

_VIEWS = ("settings", "curves", "scores", "flips")
_POINTS = 800


@dataclass(frozen=True)
class Side:
    """One of the runs that are compared."""

    run: RunRecord
    latest: dict[str, MetricPoint]
    scores: dict[str, ScoreRecord]
    passed: dict[str, dict[int, bool]]
    """By task: whether each question passed."""

    @property
    def label(self) -> str:
        """What its column is called."""
        return self.run.name or self.run.id


def read_sides(store: "Store", run_ids: Sequence[str]) -> list[Side]:
    """Everything that is compared of these runs. Raises ``RunNotFoundError``."""
    sides = []
    for run_id in run_ids:
        run = store.get_run(run_id)
        scores = {score.task: score for score in store.scores(run.id)}
        passed = {
            task: {verdict.index: verdict.passed for verdict in store.verdicts(run.id, task)}
            for task in scores
        }
        sides.append(Side(run, store.latest_metrics(run.id), scores, passed))
    return sides


def differing_settings(sides: Sequence[Side]) -> list[tuple[str, list[str]]]:
    """Keys that are not the same in all configs, with the value on each side."""
    configs: list[Mapping[str, object]] = [json.loads(side.run.config or "{}") for side in sides]
    keys = dict.fromkeys(key for config in configs for key in config)
    rows = []
    for key in keys:
        values = [json.dumps(config[key]) if key in config else "" for config in configs]
        if len(set(values)) > 1:
            rows.append((key, [value.strip('"') for value in values]))
    return rows


def flipped(first: Side, other: Side) -> list[tuple[str, int, str]]:
    """Questions that one side passed and the other did not: task, index, "won" or "lost"."""
    rows = []
    for task, before in first.passed.items():
        after = other.passed.get(task, {})
        rows += [
            (task, index, "won" if after[index] else "lost")
            for index in sorted(before.keys() & after.keys())
            if before[index] != after[index]
        ]
    return rows


class CompareScreen(Screen[None]):
    """Runs side by side: settings that differ, curves, pass@1 by task, flipped questions."""

    DEFAULT_CSS = """
    CompareScreen #views { height: 1; padding: 0 1; }
    CompareScreen VerticalScroll { height: 1fr; padding: 1 1; }
    CompareScreen MetricChart { display: none; }
    CompareScreen.-curves MetricChart { display: block; }
    CompareScreen.-curves VerticalScroll { display: none; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q", "dismiss", "Back", id="compare.back"),
        Binding("1", "view('settings')", "Settings", id="compare.settings"),
        Binding("2", "view('curves')", "Curves", id="compare.curves"),
        Binding("3", "view('scores')", "Scores", id="compare.scores"),
        Binding("4", "view('flips')", "Flips", id="compare.flips"),
        Binding("full_stop", "turn(1)", "Metric", key_display=".", id="compare.next_metric"),
        Binding("comma", "turn(-1)", "Metric", show=False, id="compare.previous_metric"),
        Binding("y", "copy", "Copy command", show=False, id="compare.copy"),
    ]

    def __init__(self, run_ids: Sequence[str]) -> None:
        super().__init__()
        self._ids = list(run_ids)
        self._sides: list[Side] = []
        self._view = "settings"
        self._turn = 0

    def compose(self) -> ComposeResult:
        yield TitleBar("compare")
        yield Static(id="views")
        with VerticalScroll():
            yield Static(id="table")
        yield MetricChart("loss", self._mft.clock)
        yield CommandLine()
        yield Footer(show_command_palette=False)

    @property
    def _mft(self) -> "MftApp":
        return cast("MftApp", self.app)

    def on_mount(self) -> None:
        self.query_one(CommandLine).argv = ("mft-tui", "runs", "compare", *self._ids)
        self._read()

    @work(group="compare", exclusive=True)
    async def _read(self) -> None:
        from db.errors import StoreError

        try:
            self._sides = await self._mft.tracker.ask(lambda store: read_sides(store, self._ids))
        except StoreError as error:
            self.notify(str(error), severity="error")
            self.dismiss()
            return
        self.query_one(TitleBar).title = f"compare  {', '.join(s.label for s in self._sides)}"
        if not differing_settings(self._sides) and any(side.scores for side in self._sides):
            self._view = "scores"
        self._show()

    def action_view(self, view: str) -> None:
        self._view = view
        self._show()

    def _show(self) -> None:
        names = Text()
        for place, view in enumerate(_VIEWS, start=1):
            names.append(f" {place} {view} ", "reverse" if view == self._view else "dim")
            names.append(" ")
        self.query_one("#views", Static).update(names)
        self.set_class(self._view == "curves", "-curves")
        if self._view == "curves":
            self.call_after_refresh(self.query_one(MetricChart).focus)
            self._show_curves()
            return
        self.query_one(VerticalScroll).focus()
        words = {"settings": self._settings, "scores": self._scores, "flips": self._flips}
        self.query_one("#table", Static).update(words[self._view]())

    def _table(self, first: str) -> Table:
        table = Table.grid(padding=(0, 3))
        table.add_column(style="dim", no_wrap=True)
        for _ in self._sides:
            table.add_column(overflow="fold")
        table.add_row(first, *(Text(side.label, "bold") for side in self._sides))
        table.add_row("", *(Text(side.run.id, "dim") for side in self._sides))
        table.add_row(*[""] * (len(self._sides) + 1))
        return table

    def _settings(self) -> Table | Text:
        rows = differing_settings(self._sides)
        if not rows:
            return Text("the settings are the same", "dim")
        table = self._table("setting")
        for key, values in rows:
            table.add_row(key, *values)
        return table

    def _scores(self) -> Table | Text:
        tasks = dict.fromkeys(task for side in self._sides for task in side.scores)
        table = self._table("pass@1")
        for task in tasks:
            found = [side.scores.get(task) for side in self._sides]
            best = max((s.pass_at_1 for s in found if s), default=0.0)
            cells = [
                Text(f"{s.pass_at_1:.3f}  {s.passed}/{s.total}", "bold" * (s.pass_at_1 == best))
                if s
                else Text("", "dim")
                for s in found
            ]
            table.add_row(task, *cells)
        keys = sorted({key for side in self._sides for key in side.latest})
        if tasks and keys:
            table.add_row(*[""] * (len(self._sides) + 1))
        for key in keys:
            points = [side.latest.get(key) for side in self._sides]
            table.add_row(key, *(number(p.value) if p else "" for p in points))
        return table if tasks or keys else Text("nothing has been measured yet", "dim")

    def _flips(self) -> Table | Text:
        first, others = self._sides[0], self._sides[1:]
        table = Table.grid(padding=(0, 3))
        found = False
        for other in others:
            rows = flipped(first, other)
            won = sum(said == "won" for _, _, said in rows)
            table.add_row(
                Text(f"{other.label} against {first.label}", "bold"),
                f"{won} won, {len(rows) - won} lost",
            )
            for task, index, said in rows:
                table.add_row(f"  {task} {index}", said)
                found = True
        return table if found else Text("no question flipped", "dim")

    # Curves

    def action_turn(self, step: int) -> None:
        self._turn += step
        if self._view == "curves":
            self._show_curves()

    @work(group="curves", exclusive=True)
    async def _show_curves(self) -> None:
        keys = sorted(
            {key for side in self._sides for key in side.latest},
            key=lambda key: ("loss" not in key, key.count("/"), key),
        )
        chart = self.query_one(MetricChart)
        if not keys:
            chart.show((), "no metric")
            return
        key = keys[self._turn % len(keys)]
        names = [(side.run.id, side.label) for side in self._sides]

        def read(store: "Store") -> list[Curve]:
            curves = []
            for run_id, label in names:
                points = store.series(run_id, key, _POINTS).points
                curves.append(Curve(label, [p.step for p in points], [p.value for p in points]))
            return curves

        chart.show(await self._mft.tracker.ask(read), key)

    def action_copy(self) -> None:
        self.query_one(CommandLine).action_copy()
