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
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from mft_tui.screens.measured import compare_measured
from mft_tui.screens.series import Line, read_curves
from mft_tui.widgets.command_line import CommandLine
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.key_line import KeyLine
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.quantities import number
from mft_tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from db.comparison import Comparison, Flip, Flips
    from db.records import RunRecord
    from mft_tui.app import MftApp

_VIEWS = ("settings", "curves", "scores", "flips")
_FLIPS_SHOWN = 500
_CHANCE = 0.05


def chance_words(flips: "Flips") -> str:
    """What the exact test says of the flips, in words that need no statistics."""
    p = f"{flips.test} exact p = {flips.p_value:.2g}"
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
    CompareScreen #flips { display: none; height: 1fr; margin: 1 1 0 1; }
    CompareScreen #flips > .option-list--option-disabled { color: $foreground; }
    CompareScreen.-curves MetricChart { display: block; }
    CompareScreen.-flips #flips { display: block; }
    CompareScreen.-curves VerticalScroll, CompareScreen.-flips VerticalScroll { display: none; }
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
        self._by: tuple[RunRecord | None, ...] = ()
        self._flips: list[tuple[int, Flip] | None] = []
        """What each line of the flips is about: the other run's place, and the question."""
        self._view = "settings"
        self._turn = 0

    def compose(self) -> ComposeResult:
        yield TitleBar("compare")
        yield Static(id="views")
        with VerticalScroll():
            yield Static(id="table")
        yield MetricChart("loss", self._mft.clock)
        yield OptionList(id="flips")
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
            measured = await self._mft.tracker.ask(lambda store: compare_measured(store, self._ids))
        except StoreError as error:
            self.notify(str(error), severity="error")
            self.dismiss()
            return
        found = self.found = measured.comparison
        self._by = measured.by
        self._fill_flips(found)
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
        self.query_one(TitleBar).status = ""
        for part in ("curves", "flips"):
            self.set_class(self._view == part, f"-{part}")
        if self._view == "curves":
            self.call_after_refresh(self.query_one(MetricChart).focus)
            self._show_curves()
        elif self._view == "flips":
            self.query_one(TitleBar).status = "enter shows the answer that failed"
            self.call_after_refresh(self.query_one("#flips").focus)
        else:
            self.query_one(VerticalScroll).focus()
            words = settings_table(found)
            if self._view == "scores":
                words = scores_table(found, self._by)
            self.query_one("#table", Static).update(words)

    # Flips

    def _fill_flips(self, found: "Comparison") -> None:
        lines = self.query_one("#flips", OptionList)
        lines.clear_options()
        self._flips = []
        for line, about in flip_lines(found):
            lines.add_option(Option(line, disabled=about is None))
            self._flips.append(about)
        lines.highlighted = next((n for n, about in enumerate(self._flips) if about), None)

    @on(OptionList.OptionSelected, "#flips")
    def _open_flip(self, event: OptionList.OptionSelected) -> None:
        """Show the answer that failed, of the run that gave it (with several, that failed more)."""
        from mft_tui.screens.failures import FailuresScreen

        event.stop()
        about = self._flips[event.option_index]
        if about is None:
            return
        place, flip = about
        run = self._by[place if flip.lost else 0]
        if run is not None:
            self.app.push_screen(FailuresScreen(run, flip.task, flip.index))

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


def _ids(found: "Comparison") -> list[str]:
    return [run.id for run in found.runs]


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


def scores_table(found: "Comparison", by: "Sequence[RunRecord | None]" = ()) -> Table | Text:
    """pass@1 by task, their mean, and the newest value of every metric.

    ``by`` are the runs that measured it, where those are others.
    """
    if not found.scores and not found.metrics:
        return Text("nothing has been measured yet", "dim")
    table = _table("pass@1" if found.scores else "newest value", found)
    elsewhere = [one for one in by if one is not None and one.id not in _ids(found)]
    if found.scores and elsewhere:
        table.add_row("measured by", *(Text(one.id if one else "—", "dim") for one in by))
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


def flip_lines(found: "Comparison") -> "list[tuple[Text, tuple[int, Flip] | None]]":
    """The questions whose verdict changed from the first run to each other one, and if it tells.

    A line each, with the other run's place and the question; None for what only introduces.
    """
    first, *others = found.runs
    lines: list[tuple[Text, tuple[int, Flip] | None]] = []
    for place, (other, flips) in enumerate(zip(others, found.flips, strict=True), start=1):
        lines.append((Text(f"{_label(first)} → {_label(other)}", "bold"), None))
        if not flips.compared:
            lines.append((Text("they have no verdict on the same question", "dim"), None))
            continue
        head = Text(f"of {flips.compared:,} questions {flips.gained:,} won, {flips.lost:,} lost")
        lines.append(
            (head.append(f"   {chance_words(flips)}" if flips.questions else "", "dim"), None)
        )
        for question in flips.questions[:_FLIPS_SHOWN]:
            line = Text("  − " if question.lost else "  + ", "bold")
            line.append(f"{question.task} {question.index:>3}  ", "not bold")
            line.append(f"{question.first} → {question.second}", "not bold dim")
            lines.append((line, (place, question)))
        if (left := len(flips.questions) - _FLIPS_SHOWN) > 0:
            lines.append((Text(f"  and {left:,} more", "dim"), None))
    return lines
