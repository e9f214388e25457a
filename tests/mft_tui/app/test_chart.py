"""The canvas of dots, and the chart that is drawn on it: in colours, and told apart without."""

import math
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st
from textual.pilot import Pilot

from mft_tui.app import MftApp
from mft_tui.widgets.canvas import NOBODY, Axis, Canvas
from mft_tui.widgets.curves import Curve, Window
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.themes import CHART_COLOURS, THEMES
from tests.mft_tui.app.driving import Make
from tests.mft_tui.app.waiting import until


def _rows(canvas: Canvas) -> list[str]:
    return ["".join(text for text, _ in canvas.runs(row)) for row in range(canvas.rows)]


def test_a_line_goes_from_corner_to_corner_without_a_gap() -> None:
    canvas = Canvas(4, 2, Axis(0, 7), Axis(0, 7))
    canvas.line([0, 7], [0, 7], 0)
    lows, highs = canvas._ranges([0, 7], [0, 7])
    assert (round(lows[-1]), round(highs[0])) == (0, 7)
    assert all(lows[n] <= highs[n + 1] and highs[n] >= lows[n + 1] for n in range(7))


def test_a_peak_between_two_columns_of_dots_is_not_lost() -> None:
    canvas = Canvas(10, 5, Axis(0, 10_000), Axis(0, 1))
    values = [0.0] * 10_001
    values[5_003] = 1.0
    canvas.line(range(10_001), values, 0)
    assert _rows(canvas)[0].strip()


def test_what_is_drawn_last_has_the_cell_and_both_keep_their_dots() -> None:
    canvas = Canvas(3, 1, Axis(0, 5), Axis(0, 3))
    canvas.line([0, 5], [0, 0], 1)
    canvas.line([0, 5], [3, 3], 0)
    assert list(canvas.runs(0)) == [("\u28c9" * 3, 0)]


def test_a_line_that_enters_and_leaves_the_axis_is_cut_at_both_ends() -> None:
    canvas = Canvas(5, 1, Axis(0, 9), Axis(0, 3))
    canvas.line([-100, 100], [0, 3], 0)
    assert all(sign != " " for sign in _rows(canvas)[0])


def test_places_on_a_log_axis_lie_a_decade_apart() -> None:
    assert Axis(1, 1000, log=True).places([1, 10, 100, 1000], 31) == pytest.approx([0, 10, 20, 30])


def test_uprights_stand_only_where_nothing_is_drawn() -> None:
    canvas = Canvas(3, 2, Axis(0, 5), Axis(0, 7))
    canvas.line([0, 5], [7, 7], 0)
    uprights = {1: "\u2502", 2: "\u250a"}
    assert list(canvas.runs(1, uprights)) == [(" \u2502\u250a", NOBODY)]
    assert list(canvas.runs(0, uprights)) == list(canvas.runs(0))


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=1, max_size=60),
    st.floats(-1e3, 1e3),
    st.floats(1e-3, 1e3),
)
def test_any_line_stays_on_the_canvas(values: list[float], low: float, width: float) -> None:
    canvas = Canvas(7, 3, Axis(low, low + width), Axis(min(values), max(values)))
    canvas.line(range(len(values)), values, 0)
    assert all(len(row) == 7 for row in _rows(canvas))


def _curves(count: int, points: int = 1200) -> list[Curve]:
    steps = [10.0 * n for n in range(points)]
    return [
        Curve(
            f"[/b] loss {n}", steps, [0.4 + n / 9 + math.exp(-s / 900) + s % 7 / 90 for s in steps]
        )
        for n in range(count)
    ]


async def _show(app: MftApp, pilot: Pilot[int], count: int) -> MetricChart:
    chart = MetricChart("loss", time.monotonic)
    await app.screen.mount(chart)
    chart.show(_curves(count))
    await until(pilot, lambda: chart._drawn.plain and not chart._due)
    return chart


async def test_eight_curves_on_a_large_screen_hold_up_no_key(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=(150, 80)) as pilot:
        chart = await _show(app, pilot, 8)
        chart.styles.height = 40
        await until(pilot, lambda: chart.size.height > 30 and not chart._due)
        chart.weight = 0.9
        took = []
        for _ in range(7):
            begun = time.thread_time()
            chart._draw()
            took.append(time.thread_time() - begun)
        assert min(took) < 0.033


async def test_a_read_out_says_names_as_they_are(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=(150, 40)) as pilot:
        chart = await _show(app, pilot, 1)
        chart.cursor = 5000.0
        await until(pilot, lambda: "[/b] loss 0" in str(chart.border_subtitle))


async def test_where_a_run_was_resumed_a_broken_line_stands_at_that_step(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=(150, 40)) as pilot:
        chart = await _show(app, pilot, 1)
        assert "┊" not in chart._drawn.plain
        chart.resumed = (4_200, 90_000)
        await until(pilot, lambda: "┊" in chart._drawn.plain)
        *rows, axis, _ = chart._drawn.plain.splitlines()
        lines = {row.index("┊") for row in rows if "┊" in row}
        assert lines == {axis.index("┴")}, "the same column in every row, and on the axis"
        # Of the 0 to 11,990 steps, 4,200 lie behind; those that are not shown are not told.
        inside = [line.split("│")[-1].split("┤")[-1] for line in rows]
        share = (lines.pop() - (len(rows[0]) - len(inside[0]))) / len(inside[0])
        assert share == pytest.approx(4_200 / 11_990, abs=0.01)
        assert str(chart.border_subtitle) == "┊ resumed at step 4,200"


@pytest.mark.parametrize("theme", [theme.name for theme in THEMES])
async def test_curves_have_the_colours_of_the_theme(make_app: Make, theme: str) -> None:
    app = make_app()
    async with app.run_test(size=(150, 40)) as pilot:
        chart = await _show(app, pilot, 3)
        app.theme = theme

        def used() -> set[str]:
            return {str(span.style) for span in chart._drawn.spans}

        await until(pilot, lambda: used() == {"dim", *CHART_COLOURS[theme][:3]})


async def test_without_colours_curves_are_marked_and_dashed(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    app = make_app()
    async with app.run_test(size=(150, 40)) as pilot:
        chart = await _show(app, pilot, 3)
        assert all(chart._drawn.plain.count(letter) >= 3 for letter in "abc")
        assert "a [/b] loss 0  b [/b] loss 1" in chart._title().plain
        alone = await _show(app, pilot, 1)
        assert "a" not in alone._drawn.plain


def test_a_chart_of_one_value_that_never_changes_is_a_level_line() -> None:
    canvas = Canvas(4, 3, Axis(0, 7), Axis(2, 2))
    canvas.line([0, 7], [2, 2], 0)
    assert [bool(row.strip()) for row in _rows(canvas)] == [False, True, False]
    assert Window.over([Curve("x", [], [])]) == Window(0.0, 1.0)
