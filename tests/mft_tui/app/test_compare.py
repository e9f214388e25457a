"""Evaluations and their failures, and runs side by side."""

import io

from rich.console import Console
from textual.widgets import OptionList, Static

from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.failures import FailuresScreen
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.task_rows import TaskRows
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import run_id
from tests.mft_tui.app.driving import ROOMY, Make, open_monitor
from tests.mft_tui.app.waiting import until


async def test_an_evaluation_shows_its_tasks_and_their_failures(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 4)
        rows = screen.query_one(TaskRows)
        await until(pilot, lambda: "2/8" not in str(rows.border_subtitle) and rows._rows)
        rows.focus()
        await pilot.press("down", "up", "enter")
        await until(pilot, lambda: isinstance(app.screen, FailuresScreen))
        failures = app.screen
        await until(pilot, lambda: failures.query_one(OptionList).option_count == 1)
        await until(pilot, lambda: "AssertionError" in str(failures.query_one("#text").render()))
        await pilot.press("right")
        await pilot.press("1")
        await until(pilot, lambda: "AssertionError" in str(failures.query_one("#text").render()))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)


async def test_compare_tells_what_differs_and_what_flipped(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = CompareScreen([run_id(4), run_id(5)])
        app.push_screen(screen)
        await until(pilot, lambda: screen.found)
        await until(pilot, lambda: "mean" in _table_words(screen))
        await pilot.press("4")
        await until(pilot, lambda: "chance alone could do this" in _table_words(screen))
        assert "of 8 questions 0 won, 2 lost" in _table_words(screen)
        assert "− mbpp   2  passed → wrong" in _table_words(screen)
        await pilot.press("1")
        await until(pilot, lambda: "seed" in _table_words(screen))
        assert "learning_rate" not in _table_words(screen)


def _table_words(screen: CompareScreen) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(screen.query_one("#table", Static).content)
    return console.file.getvalue()  # type: ignore[attr-defined]


async def test_compared_curves_lie_over_one_another(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = CompareScreen([run_id(1), run_id(2)])
        app.push_screen(screen)
        await until(pilot, lambda: screen.found)
        await pilot.press("2")
        chart = screen.query_one(MetricChart)
        await until(
            pilot, lambda: [c.name for c in chart.curves] == ["first training", "second training"]
        )
