"""Where home's cursor stands while runs come and go: on the run it was put on."""

from dataclasses import replace

import pytest

from db import open_store
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.wizard import WizardScreen
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import add_run, run_id
from tests.mft_tui.app.driving import SMALL, Make, at_home, name_under_cursor, table
from tests.mft_tui.app.waiting import until


async def test_the_cursor_on_the_first_run_stays_there_when_a_newer_one_comes(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        assert (name_under_cursor(app), table(app).cursor) == ("out of memory", 0)
        add_run(filled, 7, name="just begun")
        await until(pilot, lambda: table(app).row_count == 7)
        assert (name_under_cursor(app), table(app).cursor) == ("out of memory", 1)


async def test_the_cursor_goes_with_its_run_when_the_order_changes(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        while table(app).sort != "status":
            await pilot.press("o")
        await until(pilot, lambda: table(app).current)
        await pilot.press("down")
        watched = name_under_cursor(app)
        with open_store(filled.database) as store:
            store.update_run(table(app).current.run.id, status="crashed")  # type: ignore[union-attr]
        await until(pilot, lambda: table(app).cursor == 0)
        assert name_under_cursor(app) == watched


async def test_a_run_that_has_gone_over_the_edge_of_its_page_is_followed(
    state: StateFolder, make_app: Make
) -> None:
    _many(state, 250)
    async with at_home(make_app, runs=250) as (app, pilot):
        for _ in range(99):
            table(app).action_move(1)
        assert name_under_cursor(app) == "run 150"
        add_run(state, 900, name="just begun")
        await until(pilot, lambda: table(app).row_count == 251 and table(app).current)
        assert (name_under_cursor(app), table(app).cursor) == ("run 150", 100)


async def test_when_its_run_is_gone_the_cursor_takes_the_one_in_its_place(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("down")
        with open_store(filled.database) as store:
            store.trash(run_id(5))
        await until(pilot, lambda: table(app).row_count == 5 and table(app).current)
        assert (name_under_cursor(app), table(app).cursor) == ("scores", 1)


async def test_filter_and_cursor_are_where_they_were_left(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("slash", *"kind:train", "enter")
        await until(pilot, lambda: table(app).row_count == 3)
        await pilot.press("down", "q")
        await until(pilot, lambda: app.return_value == 0)
    async with at_home(make_app, runs=3) as (app, pilot):
        await until(pilot, lambda: name_under_cursor(app) == "second training")


async def test_a_cursor_far_down_is_found_again(state: StateFolder, make_app: Make) -> None:
    _many(state, 450)
    async with at_home(make_app, runs=450) as (app, pilot):
        await pilot.press("end", "up")
        await until(pilot, lambda: name_under_cursor(app) == "run 1")
        await pilot.press("q")
        await until(pilot, lambda: app.return_value == 0)
    _many(state, 60, first=450)
    async with at_home(make_app, runs=510) as (app, pilot):
        await until(pilot, lambda: name_under_cursor(app) == "run 1")
        assert table(app).cursor == 508


def _many(state: StateFolder, count: int, first: int = 0) -> None:
    """Runs of one moment after the other, ``run N`` the Nth."""
    record = add_run(state, first)
    with open_store(state.database) as store:
        for number in range(first + 1, first + count):
            fresh = replace(record, id=run_id(number), name=f"run {number}")
            store.insert_run(replace(fresh, created_at=record.created_at + number))


@pytest.mark.parametrize("left_by", ["quit", "killed"])
async def test_the_wizard_and_the_monitor_over_it_are_open_again(
    filled: StateFolder, make_app: Make, left_by: str
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        app.push_screen(MonitorScreen([run_id(1), run_id(2)]))
        await until(pilot, lambda: len(app.preferences.monitoring) == 2)
        if left_by == "quit":
            await pilot.press("ctrl+q")
            await until(pilot, lambda: app.return_value == 0)
    with open_store(filled.database) as store:
        store.remove_run(run_id(2))
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: len(app.screen_stack) == 3)
        monitor = app.screen
        assert isinstance(monitor, MonitorScreen)
        assert monitor.run_id == run_id(1)
        assert isinstance(app.screen_stack[1], WizardScreen)
        await until(pilot, lambda: monitor.run)
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))
        await pilot.press("escape")
        await until(pilot, lambda: len(app.screen_stack) == 1)
    async with at_home(make_app, runs=5) as (app, _):
        assert len(app.screen_stack) == 1
