"""Ways into the app that many tests begin with."""

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

from textual.pilot import Pilot

from mft_tui.app import MftApp
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.wizard import WizardScreen
from mft_tui.widgets.log_pane import LogPane
from mft_tui.widgets.log_view import LogView
from mft_tui.widgets.path_input import PathInput
from mft_tui.widgets.run_table import RunTable
from tests.mft_tui.app.conftest import run_id
from tests.mft_tui.app.waiting import until

Make = Callable[[], MftApp]
ROOMY = (140, 45)
SMALL = (80, 24)


def table(app: Any) -> RunTable:
    """Home's runs."""
    home = app.screen_stack[0]
    assert isinstance(home, HomeScreen)
    return home.table


def name_under_cursor(app: Any) -> str:
    """The name of the run that home's cursor is on."""
    row = table(app).current
    return row.run.name if row else ""


@asynccontextmanager
async def at_home(
    make_app: Make, runs: int = 6, size: tuple[int, int] = (100, 30)
) -> AsyncIterator[tuple[MftApp, Pilot[int]]]:
    """The app, once it shows that many runs."""
    app = make_app()
    async with app.run_test(size=size) as pilot:
        await until(pilot, lambda: table(app).row_count == runs and table(app).current)
        yield app, pilot


async def open_monitor(app: MftApp, pilot: Any, *numbers: int) -> MonitorScreen:
    """The monitor of the runs of these numbers, once it has looked."""
    screen = MonitorScreen([run_id(number) for number in numbers])
    app.push_screen(screen)
    await until(pilot, lambda: bool(screen.query(LogPane)) and screen._version is not None)
    return screen


async def open_log(app: MftApp, pilot: Any) -> LogView:
    """The log of the first run, alone on the screen and read."""
    screen = await open_monitor(app, pilot, 1)
    screen.action_view("log")
    view = screen.query_one(LogView)
    await until(pilot, lambda: view.row_count == 200 and app.focused is view)
    return view


async def open_wizard(app: MftApp, pilot: Any) -> WizardScreen:
    """The wizard at its first step."""
    screen = WizardScreen()
    app.push_screen(screen)
    await until(pilot, lambda: screen.page is not None and screen.query(PathInput))
    return screen
