"""Two or more runs side by side: what differs, how the curves went, which questions flipped."""

import json
from collections.abc import Sequence
from typing import TYPE_CHECKING, ClassVar, cast

from rich.table import Table
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from mft_tui.screens.series import Line, read_curves
from mft_tui.widgets.command_line import CommandLine
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.key_line import KeyLine
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.quantities import number
from mft_tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from db.comparison import Comparison, Flips
    from db.records import RunRecord
    from mft_tui.app import MftApp

_VIEWS = ("settings", "curves", "scores", "flips")
_FLIPS_SHOWN = 500
_CHANCE = 0.05


def chance_words(flips: "Flips") -> str:
    """What McNemar's exact test says of the flips, in words that need no statistics."""
    p = f"McNemar's exact p = {flips.p_value:.2g}"
    if flips.p_value < _CHANCE:
        return f"more than chance would do ({p})"
    return f"chance alone could do this ({p})"


def _said(value: object) -> str:
    return value if isinstance(value, str) else _json(value)


def _json(value: object) -> str:
    try:
        return json.dumps(value, ensure_ascii=False)
    except TypeError:
        return str(value)  # the mark of a key that this run's config does not have


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
        self.found: Comparison | None = None
        self._view = "settings"
        self._turn = 0

    def compose(self) -> ComposeResult:
        yield TitleBar("compare")
        yield Static(id="views")
        with VerticalScroll():
            yield Static(id="table")
        yield MetricChart("loss", self._mft.clock)
        yield CommandLine()
        yield KeyLine()

    @property
    def _mft(self) -> "MftApp":
        return cast("MftApp", self.app)

    def on_mount(self) -> None:
        self.query_one(CommandLine).argv = ("mft-tui", "runs", "compare", *self._ids)
        self._read()

    @guarded(group="compare", exclusive=True)
    async def _read(self) -> None:
        from db.errors import StoreError

        try:
            found = await self._mft.tracker.ask(lambda store: store.compare(self._ids))
        except StoreError as error:
            self.notify(str(error), severity="error")
            self.dismiss()
            return
        self.found = found
        self.query_one(TitleBar).title = f"compare  {', '.join(map(_label, found.runs))}"
        if found.scores:
            self._view = "scores"
        self._show()

    def action_view(self, view: str) -> None:
        self._view = view
        self._show()

    def _show(self) -> None:
        if (found := self.found) is None:
            return
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
        words = {"settings": settings_table, "scores": scores_table, "flips": flips_table}
        self.query_one("#table", Static).update(words[self._view](found))

    # Curves

    def action_turn(self, step: int) -> None:
        self._turn += step
        if self._view == "curves":
            self._show_curves()

    @on(MetricChart.Zoomed)
    def _look_closer(self, event: MetricChart.Zoomed) -> None:
        event.stop()
        self._show_curves()

    @guarded(group="curves", exclusive=True)
    async def _show_curves(self) -> None:
        chart = self.query_one(MetricChart)
        if self.found is None or not self.found.metrics:
            chart.show((), "no metric")
            return
        keys = sorted(
            (metric.key for metric in self.found.metrics),
            key=lambda key: ("loss" not in key, key.count("/"), key),
        )
        key, window = keys[self._turn % len(keys)], chart.window
        lines = [Line(run.id, key, _label(run)) for run in self.found.runs]
        curves = await self._mft.tracker.ask(lambda store: read_curves(store, lines, window))
        if window == chart.window:
            chart.show(curves, key, part=window is not None)

    def action_copy(self) -> None:
        self.query_one(CommandLine).action_copy()


def _label(run: "RunRecord") -> str:
    return run.name or run.id


def _table(first: str, found: "Comparison") -> Table:
    table = Table.grid(padding=(0, 3))
    table.add_column(style="dim", no_wrap=True)
    for _ in found.runs:
        table.add_column(overflow="fold")
    table.add_row(first, *(Text(_label(run), "bold") for run in found.runs))
    table.add_row("", *(Text(run.id, "dim") for run in found.runs))
    table.add_row(*[""] * (len(found.runs) + 1))
    return table


def settings_table(found: "Comparison") -> Table | Text:
    """The settings and facts that are not the same, a column a run."""
    if not found.differences:
        return Text("the settings are the same", "dim")
    table = _table("setting", found)
    for difference in found.differences:
        table.add_row(difference.key, *(Text(_said(value)) for value in difference.values))
    return table


def scores_table(found: "Comparison") -> Table | Text:
    """pass@1 by task, their mean, and the newest value of every metric."""
    if not found.scores and not found.metrics:
        return Text("nothing has been measured yet", "dim")
    table = _table("pass@1" if found.scores else "newest value", found)
    for score in found.scores:
        table.add_row(score.task, *_compared(score.values))
    if len(found.scores) > 1:
        columns = zip(*(score.values for score in found.scores), strict=True)
        table.add_row("mean", *_compared([_mean(column) for column in columns]))
    if found.scores and found.metrics:
        table.add_row(*[""] * (len(found.runs) + 1))
    for metric in found.metrics:
        table.add_row(metric.key, *(number(value) for value in metric.newest))
    return table


def _mean(values: Sequence[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) / len(known) if len(known) == len(values) else None


def _compared(values: Sequence[float | None]) -> list[Text]:
    """The best one bold, unless all are alike."""
    known = [value for value in values if value is not None]
    best = max(known, default=0.0)
    apart = len(set(known)) > 1
    return [
        Text("" if value is None else f"{value:.3f}", "bold" if apart and value == best else "")
        for value in values
    ]


def flips_table(found: "Comparison") -> Text:
    """The questions whose verdict changed from the first run to each other one, and if it tells."""
    first, *others = found.runs
    text = Text()
    for other, flips in zip(others, found.flips, strict=True):
        text.append(f"{_label(first)} → {_label(other)}\n", "bold")
        if not flips.compared:
            text.append("they have no verdict on the same question\n\n", "dim")
            continue
        text.append(
            f"of {flips.compared:,} questions {flips.only_second:,} won, {flips.only_first:,} lost"
        )
        text.append(f"   {chance_words(flips)}\n" if flips.questions else "\n", "dim")
        for question in flips.questions[:_FLIPS_SHOWN]:
            text.append("  − " if question.first_passed else "  + ", "bold")
            text.append(f"{question.task} {question.index:>3}  ")
            text.append(f"{question.first} → {question.second}\n", "dim")
        if (left := len(flips.questions) - _FLIPS_SHOWN) > 0:
            text.append(f"  and {left:,} more\n", "dim")
        text.append("\n")
    return text
