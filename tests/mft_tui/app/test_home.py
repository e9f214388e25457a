"""Home, driven by its keys, on a real store."""

from collections.abc import Callable

import pytest
from textual.widgets import Input, OptionList, SelectionList

from db import RunQuery, open_store
from mft_tui.app import MftApp
from mft_tui.screens.ask import AskText, Confirm
from mft_tui.screens.columns import ColumnsScreen
from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.help import HelpScreen
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.quit import QuitScreen
from mft_tui.screens.too_small import TooSmall
from mft_tui.screens.wizard import WizardScreen
from mft_tui.widgets.run_table import RunTable
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import NOW, add_run, run_id
from tests.mft_tui.app.waiting import until

Make = Callable[[], MftApp]
SIZE = (100, 30)


def _table(app: MftApp) -> RunTable:
    screen = app.screen_stack[0]
    assert isinstance(screen, HomeScreen)
    return screen.table


def _name(app: MftApp) -> str:
    row = _table(app).current
    return row.run.name if row else ""


async def test_an_empty_home_says_how_to_begin(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.has_class("-empty"))
        assert "No runs yet" in str(app.screen.query_one("#empty > Static").render())


async def test_the_newest_run_stands_first_and_arrows_move(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _name(app) == "out of memory")
        await pilot.press("down", "j")
        assert _name(app) == "scores"
        await pilot.press("k")
        assert _name(app) == "scores again"
        await pilot.press("end")
        assert _name(app) == "first training"
        await pilot.press("g")
        assert _name(app) == "out of memory"
        await pilot.press("pagedown")
        assert _name(app) == "first training"
        await pilot.press("pageup")
        assert _name(app) == "out of memory"


async def test_ten_thousand_runs_are_paged_not_loaded(state: StateFolder, make_app: Make) -> None:
    add_run(state, 0)
    with open_store(state.database) as store:
        record = store.get_run(run_id(0))
        from dataclasses import replace

        for number in range(1, 1200):
            store.insert_run(
                replace(
                    record,
                    id=run_id(number),
                    name=f"run {number}",
                    created_at=record.created_at + number,
                )
            )
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        table = _table(app)
        await until(pilot, lambda: table.row_count == 1200)
        assert sum(table.row(n) is not None for n in range(1200)) <= 300
        await pilot.press("end")
        await until(pilot, lambda: _name(app) == "run 0")
        assert table.row(600) is None


async def test_the_filter_speaks_the_language_of_runs_list(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("slash")
        app.screen.query_one("#filter", Input).value = "kind:evaluate"
        await pilot.press("enter")
        await until(pilot, lambda: _table(app).row_count == 2)
        await pilot.press("escape")
        await until(pilot, lambda: _table(app).row_count == 6)


async def test_a_filter_that_makes_no_sense_is_explained(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("slash")
        app.screen.query_one("#filter", Input).value = "status:("
        await pilot.press("enter")
        await until(pilot, lambda: len(app._notifications) == 1)


async def test_sorting_goes_through_the_columns_and_is_remembered(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("o")
        await until(pilot, lambda: _name(app) == "answers")
        await pilot.press("O")
        await until(pilot, lambda: _name(app) == "second training")
    assert make_app().preferences.sort == "-name"


async def test_columns_are_chosen(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ColumnsScreen))
        app.screen.query_one(SelectionList).deselect("kind")
        await pilot.press("enter")
        await until(pilot, lambda: "kind" not in app.preferences.columns)
        assert "name" in app.preferences.columns


async def test_enter_opens_the_monitor_and_escape_comes_back(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("enter")
        await until(pilot, lambda: isinstance(app.screen, MonitorScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_marked_runs_are_compared(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("c")
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("down", "space", "space", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert list(_table(app).marked) == [run_id(5), run_id(4)]


async def test_n_opens_the_wizard(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.has_class("-empty"))
        await pilot.press("n")
        await until(pilot, lambda: isinstance(app.screen, WizardScreen))


async def test_a_note_is_written_to_the_store(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, AskText))
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: _table(app).current.run.note == "hi")  # type: ignore[union-attr]
    with open_store(filled.database) as store:
        assert store.get_run(run_id(6)).note == "hi"


async def test_tags_are_set_and_taken_away(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, AskText))
        await pilot.press(*"best", "enter")
        await until(pilot, lambda: _table(app).current.tags == ("best",))  # type: ignore[union-attr]
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, AskText))
        await pilot.press(*["backspace"] * 4, "enter")
        await until(pilot, lambda: _table(app).current.tags == ())  # type: ignore[union-attr]


async def test_deleting_asks_and_puts_the_run_into_the_trash(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: _table(app).row_count == 5)
    with open_store(filled.database) as store:
        assert store.list_runs(RunQuery(trash="only")).total == 1


async def test_a_run_that_goes_on_is_not_deleted(state: StateFolder, make_app: Make) -> None:
    add_run(state, 1, status="running", ended_at=None, heartbeat_at=NOW, host="elsewhere")
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 1)
        await pilot.press("d")
        await until(pilot, lambda: len(app._notifications) >= 1)
        assert isinstance(app.screen, HomeScreen)


async def test_a_new_run_appears_without_a_key_and_the_cursor_stays_on_its_run(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("down")
        assert _name(app) == "scores again"
        add_run(filled, 7, name="just begun")
        await until(pilot, lambda: _table(app).row_count == 7)
        assert _name(app) == "scores again"


async def test_quitting_with_a_job_running_asks(state: StateFolder, make_app: Make) -> None:
    add_run(state, 1, status="running", ended_at=None, heartbeat_at=NOW, host="elsewhere")
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.live)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        assert app.screen.query_one(OptionList).option_count == 3
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        await pilot.press("d")
        await until(pilot, lambda: app.return_value == 0)
    with open_store(state.database) as store:
        assert store.get_run(run_id(1)).status == "running"


async def test_stop_in_the_quit_dialog_leaves_a_request_for_the_supervisor(
    state: StateFolder, make_app: Make
) -> None:
    add_run(state, 1, status="running", ended_at=None, heartbeat_at=NOW, host="elsewhere")
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.live)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        await pilot.press("s")
        await until(pilot, lambda: app.return_value == 0)
    assert state.run(run_id(1)).stop_request.exists()


async def test_s_asks_the_running_job_to_stop(state: StateFolder, make_app: Make) -> None:
    add_run(state, 1, status="running", ended_at=None, heartbeat_at=NOW, host="elsewhere")
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).current is not None)
        await pilot.press("s")
        await until(pilot, state.run(run_id(1)).stop_request.exists)


@pytest.mark.parametrize("key", ["r", "u"])
async def test_replay_and_resume_ask_before_they_act(
    filled: StateFolder, make_app: Make, key: str
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press(key)
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_export_of_a_run_without_generations_says_so(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("x")
        await until(pilot, lambda: len(app._notifications) == 1)


async def test_y_copies_the_command(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("y")
        assert app.clipboard == f"mft-tui runs show {run_id(6)}"


async def test_the_demo_asks_first(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.has_class("-empty"))
        await pilot.press("D")
        await until(pilot, lambda: isinstance(app.screen, Confirm))


async def test_help_names_the_keys_of_the_screen_beneath(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_the_palette_opens_and_themes_turn(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.press("ctrl+t")
        assert app.theme == "light"
        await pilot.press("ctrl+p")
        await until(pilot, lambda: app.screen.__class__.__name__ == "CommandPalette")
    assert make_app().theme == "light"


async def test_keys_are_remapped_by_id(filled: StateFolder) -> None:
    (filled.root / "app.json").write_text('{"keys": {"home.open": "f12"}}')
    app = MftApp(filled, clock=lambda: NOW)
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: _table(app).row_count == 6)
        await pilot.press("f12")
        await until(pilot, lambda: isinstance(app.screen, MonitorScreen))


async def test_a_terminal_that_is_too_small_is_told_and_grown_out_of(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await pilot.resize_terminal(50, 15)
        await until(pilot, lambda: isinstance(app.screen, TooSmall))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_a_damaged_store_is_explained(state: StateFolder, make_app: Make) -> None:
    state.database.write_bytes(b"this is no database at all" * 100)
    app = make_app()
    async with app.run_test(size=SIZE) as pilot:
        await until(pilot, lambda: app.screen.has_class("-empty"))
        assert str(state.database) in str(app.screen.query_one("#empty > Static").render())
