"""A chart of metrics over steps: several curves, log axis, smoothing, zoom, a cursor that reads.

Drawing takes plotext some milliseconds, so it is done at most four times a second however often
data or keys come; what is drawn is kept until then.
"""

from collections.abc import Callable, Sequence
from typing import ClassVar

from rich.text import Text
from textual import events
from textual.app import RenderResult
from textual.binding import Binding, BindingType
from textual.color import Color, ColorParseError
from textual.message import Message
from textual.reactive import reactive
from textual_plotext import PlotextPlot

from mft_tui.widgets.curves import Curve, Window, log_ticks, nearest, smoothed, ticks, within
from mft_tui.widgets.quantities import number

_REDRAW = 0.25
_WEIGHTS = (0.0, 0.6, 0.9, 0.97)
_PALETTE = ("#7aa2d6", "#d6a95c", "#86b58a", "#c58fc0", "#6fb8b8", "#d47b78", "#b8b06a", "#9a94d0")
_SAFE = ("#56b4e9", "#e69f00", "#f0e442", "#cc79a7", "#009e73", "#d55e00", "#0072b2", "#999999")


class MetricChart(PlotextPlot, can_focus=True):
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
        super().on_mount()
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

    def _colours(self) -> tuple[str, ...]:
        return _SAFE if "blind" in self.app.theme else _PALETTE

    def _colour(self, index: int) -> tuple[int, int, int]:
        return Color.parse(self._colours()[index % len(_PALETTE)]).rgb

    def _plot_curves(self) -> Text:
        width, height = self.size.width, self.size.height
        lines = [curve.finite() for curve in self._curves]
        if not any(line.steps for line in lines):
            return Text("\n" * (height // 2 - 1) + "nothing measured yet".center(width), "dim")
        plot, window = self.plt, self.shown
        plot.clear_figure()
        plot.theme("clear")
        heights: list[float] = []
        # The last one drawn lies on top: that is to be the first, which stands for all the others.
        for index, line in reversed(list(enumerate(lines))):
            part = within(Curve(line.name, line.steps, smoothed(line.values, self.weight)), window)
            steps, values = list(part.steps), list(part.values)
            if self.log_axis:
                kept = [(s, v) for s, v in zip(steps, values, strict=True) if v > 0]
                steps, values = [s for s, _ in kept], [v for _, v in kept]
            heights += values
            if steps:
                plot.plot(steps, values, color=self._colour(index), marker="braille")
        if self.log_axis:
            plot.yscale("log")
        if self.cursor is not None:
            plot.vline(self.cursor, self._muted())
        if window.high > window.low:
            plot.xlim(window.low, window.high)
        self._tick(heights, window, width, height)
        plot.xaxes(True, False)
        plot.yaxes(True, False)
        plot.ticks_color(self._muted())
        plot.plotsize(width, height)
        plot._set_size(width, height)
        return Text.from_ansi(plot.build())

    def _tick(self, heights: list[float], window: Window, width: int, height: int) -> None:
        across = ticks(window.low, window.high, max(2, width // 16))
        self.plt.xticks(across, [number(step) for step in across])
        if heights:
            choose = log_ticks if self.log_axis else ticks
            up = choose(min(heights), max(heights), max(3, height // 3))
            self.plt.yticks(up, [number(value) for value in up])

    def _muted(self) -> tuple[int, int, int]:
        try:
            colour = Color.parse(self.app.theme_variables["foreground"])
            ground = Color.parse(self.app.theme_variables["surface"])
            return ground.blend(colour, 0.55, alpha=1).rgb
        except (KeyError, ColorParseError):
            return (128, 128, 128)

    def _title(self) -> Text:
        title = Text(self._heading)
        if self.log_axis:
            title.append(" · log")
        if self.weight:
            title.append(f" · smooth {self.weight:g}")
        if len(self._curves) > 1 or (self._curves and self._curves[0].name != self._heading):
            for index, curve in enumerate(self._curves):
                title.append("  ")
                title.append("━ ", self._colours()[index % len(_PALETTE)])
                title.append(curve.name)
        title.truncate(max(8, self.size.width - 4), overflow="ellipsis")
        return title

    def _reading(self) -> str:
        odd = sum(curve.odd for curve in self._curves)
        warning = f"{odd} NaN or infinite · " if odd else ""
        step = self.cursor
        if step is None:
            return warning.rstrip(" ·")
        points = [(c.name, nearest(c.finite(), step)) for c in self._curves]
        read = "  ".join(f"{name} {number(point[1])}" for name, point in points if point)
        return f"{warning}step {number(round(step))}  {read}"
