"""A chart of metrics over steps: several curves, log axis, smoothing, zoom, a cursor that reads.

Where the run was resumed a broken line stands behind the curves: what follows may jump there. It is
drawn at most four times a second however often data or keys come; what is drawn is kept until then.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.message import Message
from textual.reactive import reactive
from textual.widget import Widget

from mft_tui.widgets.canvas import DASHES, NOBODY, Axis, Canvas
from mft_tui.widgets.curves import Curve, Window, log_ticks, nearest, smoothed, ticks, within
from mft_tui.widgets.quantities import number
from mft_tui.widgets.themes import CHART_COLOURS

_REDRAW = 0.25
_WEIGHTS = (0.0, 0.6, 0.9, 0.97)
_MUTED = "dim"
_BREAK = "┊"
_LETTERS = "abcdefghijklmnopqrstuvwxyz"


class MetricChart(Widget, can_focus=True):
    """One frame, its curves and its keys."""

    DEFAULT_CSS = """
    MetricChart {
        border: round $border-blurred; border-title-color: $text-muted;
        border-subtitle-color: $text-muted; height: 1fr; width: 1fr; background: $surface;
    }
    MetricChart:focus { border: round $primary; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("l", "log", "Log axis", id="chart.log"),
        Binding("m", "smooth", "Smooth", id="chart.smooth"),
        Binding("left", "cursor(-1)", "Read", show=False, id="chart.left"),
        Binding("right", "cursor(1)", "Read", show=False, id="chart.right"),
        Binding("shift+left", "pan(-0.5)", "Move", show=False, id="chart.pan_left"),
        Binding("shift+right", "pan(0.5)", "Move", show=False, id="chart.pan_right"),
        Binding(
            "plus,equals_sign", "zoom(0.5)", "Zoom in", key_display="+", show=False, id="chart.in"
        ),
        Binding("minus", "zoom(2.0)", "Zoom out", show=False, id="chart.out"),
        Binding("0", "whole", "All steps", show=False, id="chart.whole"),
    ]

    log_axis: reactive[bool] = reactive(False)
    weight: reactive[float] = reactive(0.0)
    cursor: reactive[float | None] = reactive(None)
    window: reactive[Window | None] = reactive(None)
    resumed: reactive[tuple[int, ...]] = reactive(())
    """The steps at which the run went on from a checkpoint."""

    class Zoomed(Message):
        """Another window is shown, so finer data would be welcome."""

        def __init__(self, chart: "MetricChart", window: Window | None) -> None:
            super().__init__()
            self.chart, self.window = chart, window

    def __init__(
        self,
        title: str,
        clock: Callable[[], float],
        *,
        id: str | None = None,  # noqa: A002
    ) -> None:
        super().__init__(id=id)
        self._clock = clock
        self._heading = title
        self._curves: tuple[Curve, ...] = ()
        self._whole = Window(0.0, 1.0)
        self._drawn = Text()
        self._drawn_at = float("-inf")
        self._due = False

    def on_mount(self) -> None:
        self.app.theme_changed_signal.subscribe(self, lambda theme: self._draw_soon())
        self._draw_soon()

    def on_resize(self, event: events.Resize) -> None:
        self._draw_soon()

    def show(
        self, curves: Sequence[Curve], title: str | None = None, *, part: bool = False
    ) -> None:
        """Show these curves from now on; ``part`` when they cover the window and no more."""
        fresh, heading = tuple(curves), self._heading if title is None else title
        if fresh == self._curves and heading == self._heading:
            return
        self._curves, self._heading = fresh, heading
        here = Window.over(fresh)
        self._whole = self._whole.joined(here) if part else here
        self._draw_soon()

    @property
    def curves(self) -> tuple[Curve, ...]:
        """What is shown."""
        return self._curves

    @property
    def whole(self) -> Window:
        """All the steps there are."""
        return self._whole

    @property
    def shown(self) -> Window:
        """The steps that are shown."""
        return self.window or self.whole

    # Keys

    def action_log(self) -> None:
        self.log_axis = not self.log_axis

    def action_smooth(self) -> None:
        self.weight = _WEIGHTS[(_WEIGHTS.index(self.weight) + 1) % len(_WEIGHTS)]

    def action_cursor(self, direction: int) -> None:
        """Move the read-out by one column of the chart."""
        window = self.shown
        step = (window.high - window.low) / max(1, self.size.width - 8)
        here = window.high if self.cursor is None else self.cursor
        self.cursor = min(window.high, max(window.low, here + direction * step))

    def action_zoom(self, factor: float) -> None:
        window = self.shown
        centre = (window.low + window.high) / 2 if self.cursor is None else self.cursor
        zoomed = window.zoomed(factor, centre, self.whole)
        self.window = None if zoomed == self.whole else zoomed

    def action_pan(self, share: float) -> None:
        if self.window is not None:
            self.window = self.window.moved(share, self.whole)

    def action_whole(self) -> None:
        self.window = None
        self.cursor = None

    def watch_log_axis(self) -> None:
        self._draw_soon()

    def watch_weight(self) -> None:
        self._draw_soon()

    def watch_cursor(self) -> None:
        self._draw_soon()

    def watch_resumed(self) -> None:
        self._draw_soon()

    def watch_window(self, window: Window | None) -> None:
        self._draw_soon()
        self.post_message(self.Zoomed(self, window))

    # Drawing

    def _draw_soon(self) -> None:
        if self._due or not self.is_mounted:
            return
        self._due = True
        wait = self._drawn_at + _REDRAW - self._clock()
        if 0 < wait <= _REDRAW:
            self.set_timer(wait, self._draw)
        else:
            self.call_later(self._draw)

    def _draw(self) -> None:
        self._due = False
        self._drawn_at = self._clock()
        if self.size.width < 12 or self.size.height < 4:
            return
        self._drawn = self._plot_curves()
        self.border_title = self._title()
        self.border_subtitle = Text(self._reading())
        self.refresh()

    def render(self) -> RenderResult:
        return self._drawn

    def _breaks(self) -> list[int]:
        """Where the run was resumed, of what is shown."""
        window = self.shown
        return [step for step in self.resumed if window.low <= step <= window.high]

    def _colour(self, index: int) -> str:
        colours = CHART_COLOURS.get(self.app.theme, CHART_COLOURS["dark"])
        return colours[index % len(colours)]

    def _letter(self, index: int) -> str:
        """What a curve is marked with where there is no colour; nothing needs it when alone."""
        several = self.app.no_color and len(self._curves) > 1
        return _LETTERS[index % len(_LETTERS)] if several else ""

    def _plot_curves(self) -> Text:
        width, height = self.size.width, self.size.height
        window = self.shown
        parts = [self._part(curve, window) for curve in self._curves]
        values = [value for part in parts for value in part.values]
        if not values:
            return Text("\n" * (height // 2 - 1) + "nothing measured yet".center(width), "dim")
        choose = log_ticks if self.log_axis else ticks
        up = choose(min(values), max(values), max(3, height // 3))
        room = max(len(number(value)) for value in up)
        canvas = Canvas(
            max(1, width - room - 1),
            max(1, height - 2),
            Axis(window.low, window.high),
            Axis(min(values), max(values), self.log_axis),
        )
        # The last one drawn lies on top: that is to be the first, which stands for all the others.
        for index, part in reversed(list(enumerate(parts))):
            letter = self._letter(index)
            dash = DASHES[index % len(DASHES)] if letter else ""
            canvas.line(part.steps, part.values, index, dash)
            if letter:
                canvas.mark(part.steps, part.values, index, letter)
        return self._framed(canvas, window, up, room)

    def _part(self, curve: Curve, window: Window) -> Curve:
        """What of a curve is drawn: smoothed over all of it, then cut to the window."""
        line = curve.finite()
        part = within(Curve(line.name, line.steps, smoothed(line.values, self.weight)), window)
        if not self.log_axis:
            return part
        kept = [(s, v) for s, v in zip(part.steps, part.values, strict=True) if v > 0]
        return Curve(part.name, [s for s, _ in kept], [v for _, v in kept])

    def _framed(self, canvas: Canvas, window: Window, up: list[float], room: int) -> Text:
        """The canvas with its axes: values at the left, steps beneath."""
        labels = {canvas.row_of(value): number(value) for value in up}
        breaks = {canvas.column_of(step) for step in self._breaks()}
        uprights = dict.fromkeys(breaks, _BREAK)
        if self.cursor is not None:
            uprights[canvas.column_of(self.cursor)] = "│"
        text = Text(no_wrap=True)
        for row in range(canvas.rows):
            label = labels.get(row, "")
            text.append(f"{label:>{room}}{'┤' if label else '│'}", _MUTED)
            for run, owner in canvas.runs(row, uprights):
                text.append(run, _MUTED if owner == NOBODY else self._colour(owner))
            text.append("\n")
        line, names = ["─"] * canvas.columns, [" "] * (canvas.columns + room + 1)
        for column in breaks:
            line[column] = "┴"
        free = 0
        for step in ticks(window.low, window.high, max(2, canvas.columns // 16)):
            column, name = canvas.column_of(step), number(step)
            first = min(column + room + 1 - len(name) // 2, len(names) - len(name))
            if first >= free:
                line[column] = "┼" if column in breaks else "┬"
                names[first : first + len(name)] = name
                free = first + len(name) + 1
        text.append(f"{'':>{room}}└{''.join(line)}\n{''.join(names)}", _MUTED)
        return text

    def _title(self) -> Text:
        title = Text(self._heading)
        if self.log_axis:
            title.append(" · log")
        if self.weight:
            title.append(f" · smooth {self.weight:g}")
        if len(self._curves) > 1 or (self._curves and self._curves[0].name != self._heading):
            for index, curve in enumerate(self._curves):
                title.append("  ")
                title.append(f"{self._letter(index) or '━'} ", self._colour(index))
                title.append(curve.name)
        title.truncate(max(8, self.size.width - 4), overflow="ellipsis")
        return title

    def _reading(self) -> str:
        odd = sum(curve.odd for curve in self._curves)
        warning = f"{odd} NaN or infinite · " if odd else ""
        step = self.cursor
        if step is None:
            steps = ", ".join(number(one) for one in self._breaks())
            return (warning + (f"{_BREAK} resumed at step {steps}" if steps else "")).rstrip(" ·")
        points = [(c.name, nearest(c.finite(), step)) for c in self._curves]
        read = "  ".join(f"{name} {number(point[1])}" for name, point in points if point)
        return f"{warning}step {number(round(step))}  {read}"
