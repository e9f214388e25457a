"""Home, driven by its keys, on a real store. What each key does is in ``test_keys``."""

import io
import os
import time

import pytest
from rich.console import Console
from textual.geometry import Region
from textual.widgets import Input, OptionList, SelectionList, Static

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
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.processes import Machine, ProcessId
from tests.mft_tui.app.conftest import NOW, add_run, run_id
from tests.mft_tui.app.driving import Make, at_home, name_under_cursor, table
from tests.mft_tui.app.waiting import until


async def test_an_empty_home_says_how_to_begin(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.screen.has_class("-empty"))
        assert "No runs yet" in str(app.screen.query_one("#empty > Static").render())


async def test_the_newest_run_stands_first(filled: StateFolder, make_app: Make) -> None:
    async with at_home(make_app) as (app, _):
        assert name_under_cursor(app) == "out of memory"


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
    async with app.run_test(size=(100, 30)) as pilot:
        shown = table(app)
        await until(pilot, lambda: shown.row_count == 1200)
        assert sum(shown.row(n) is not None for n in range(1200)) <= 300
        await pilot.press("end")
        await until(pilot, lambda: name_under_cursor(app) == "run 0")
        assert shown.row(600) is None


async def test_the_filter_speaks_the_language_of_runs_list(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("slash")
        app.screen.query_one("#filter", Input).value = "kind:evaluate"
        await pilot.press("enter")
        await until(pilot, lambda: table(app).row_count == 2)
        await pilot.press("escape")
        await until(pilot, lambda: table(app).row_count == 6)


async def test_a_filter_that_makes_no_sense_is_explained_once_and_not_adopted(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("slash")
        app.screen.query_one("#filter", Input).value = "status:("
        await pilot.press("enter")
        await until(pilot, lambda: len(app._notifications) == 1)
        assert isinstance(app.focused, Input)  # where it can be mended
        add_run(filled, 7, name="just begun")
        await until(pilot, lambda: table(app).row_count == 7)
        assert len(app._notifications) == 1
        assert app.preferences.filter == ""


async def test_an_order_that_makes_no_sense_any_more_is_given_up(
    filled: StateFolder, make_app: Make
) -> None:
    (filled.root / "app.json").write_text('{"sort": "-no_such_metric", "filter": "kind:train"}')
    async with at_home(make_app) as (app, _):
        assert table(app).sort == "-created_at"
        assert len(app._notifications) == 1


async def test_any_metric_or_setting_can_be_a_column_and_an_order(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.resize_terminal(160, 30)
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ColumnsScreen))
        await pilot.press("a", *"loss/java", "enter", "a", *"config.seed", "enter", "enter")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))
        header = table(app).render_line(0).text
        assert "loss/java" in header
        assert "seed" in header
        while table(app).sort != "-config.seed":
            await pilot.press("o")
        await pilot.press("O")
        await until(pilot, lambda: name_under_cursor(app) == "first training")
        assert table(app).render_line(1).text.split()[-2:] == ["0.6595", "1"]
    assert make_app().preferences.columns[-2:] == ["loss/java", "config.seed"]


async def test_sorting_goes_through_the_columns_and_is_remembered(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("o")
        await until(pilot, lambda: name_under_cursor(app) == "answers")
        await pilot.press("O")
        await until(pilot, lambda: name_under_cursor(app) == "second training")
    assert make_app().preferences.sort == "-name"


async def test_columns_are_chosen(filled: StateFolder, make_app: Make) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ColumnsScreen))
        app.screen.query_one(SelectionList).deselect("kind")
        await pilot.press("enter")
        await until(pilot, lambda: "kind" not in app.preferences.columns)
        assert "name" in app.preferences.columns


async def test_which_columns_are_chosen_is_told_without_a_colour_and_clicked_too(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("C")
        await until(pilot, lambda: isinstance(app.screen, ColumnsScreen))
        columns = app.screen.query_one(SelectionList)
        columns.deselect("kind")
        await pilot.pause()

        def line(y: int) -> str:
            return columns.render_line(y).text.rstrip()

        assert [line(0), line(2)] == ["[x] status", "[ ] kind"]
        await pilot.click(columns, offset=(1, 2))
        await until(pilot, lambda: line(2) == "[x] kind")
        await pilot.press("escape")


async def test_marked_runs_are_compared(filled: StateFolder, make_app: Make) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("c")
        assert isinstance(app.screen, HomeScreen)
        await pilot.press("down", "space", "space", "c")
        await until(pilot, lambda: isinstance(app.screen, CompareScreen))
        assert list(table(app).marked) == [run_id(5), run_id(4)]


async def test_a_note_is_written_to_the_store(filled: StateFolder, make_app: Make) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("e")
        await until(pilot, lambda: isinstance(app.screen, AskText))
        await pilot.press(*"hi", "enter")
        await until(pilot, lambda: table(app).current.run.note == "hi")  # type: ignore[union-attr]
    with open_store(filled.database) as store:
        assert store.get_run(run_id(6)).note == "hi"


async def test_tags_are_set_and_taken_away(filled: StateFolder, make_app: Make) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, AskText))
        await pilot.press(*"best", "enter")
        await until(pilot, lambda: table(app).current.tags == ("best",))  # type: ignore[union-attr]
        await pilot.press("t")
        await until(pilot, lambda: isinstance(app.screen, AskText))
        await pilot.press(*["backspace"] * 4, "enter")
        await until(pilot, lambda: table(app).current.tags == ())  # type: ignore[union-attr]


async def test_deleting_asks_and_puts_the_run_into_the_trash(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("n")
        await pilot.press("d")
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        await until(pilot, lambda: table(app).row_count == 5)
    with open_store(filled.database) as store:
        assert store.list_runs(RunQuery(trash="only")).total == 1


async def test_a_run_that_goes_on_is_not_deleted(state: StateFolder, make_app: Make) -> None:
    add_run(state, 1, status="running", ended_at=None, heartbeat_at=NOW, host="elsewhere")
    async with at_home(make_app, runs=1) as (app, pilot):
        await pilot.press("d")
        await until(pilot, lambda: len(app._notifications) >= 1)
        assert isinstance(app.screen, HomeScreen)


async def test_each_second_the_runs_that_go_on_are_drawn_again_and_no_others(
    state: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_run(state, 1)
    add_run(state, 2, status="running", ended_at=None, heartbeat_at=NOW, host="elsewhere")
    add_run(state, 3)
    async with at_home(make_app, runs=3) as (app, pilot):
        await until(pilot, lambda: app.live)
        shown = [table(app).row(n) for n in range(3)]
        (going,) = [n for n, row in enumerate(shown) if row and row.run.status == "running"]
        drawn: list[Region] = []
        monkeypatch.setattr(table(app), "refresh", lambda *regions, **_: drawn.extend(regions))
        table(app).tick()
        assert [(region.y, region.height) for region in drawn] == [(going + 1, 1)]


async def test_a_new_run_appears_without_a_key_and_the_cursor_stays_on_its_run(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("down")
        assert name_under_cursor(app) == "scores again"
        add_run(filled, 7, name="just begun")
        await until(pilot, lambda: table(app).row_count == 7)
        assert name_under_cursor(app) == "scores again"


async def test_a_job_goes_on_when_one_detaches(state: StateFolder, make_app: Make) -> None:
    add_run(state, 1, status="running", ended_at=None, heartbeat_at=NOW, host="elsewhere")
    async with at_home(make_app, runs=1) as (app, pilot):
        await until(pilot, lambda: app.live)
        await pilot.press("q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        assert app.screen.query_one(OptionList).option_count == 3
        await pilot.press("d")
        await until(pilot, lambda: app.return_value == 0)
    assert not state.run(run_id(1)).stop_request.exists()
    with open_store(state.database) as store:
        assert store.get_run(run_id(1)).status == "running"


async def test_a_death_is_noticed_while_another_run_writes(
    state: StateFolder, make_app: Make
) -> None:
    here = Machine.here()
    mine = {"host": here.host, "boot_id": here.boot_id, "ended_at": None, "heartbeat_at": NOW}
    add_run(state, 1, status="running", **mine, supervisor_pid=2**22 - 1, supervisor_started=1.0)
    add_run(state, 2, status="running", ended_at=None, heartbeat_at=time.time(), host="elsewhere")
    async with at_home(make_app, runs=2) as (_, pilot):
        with open_store(state.database) as store:

            def crashed() -> bool:
                store.update_run(run_id(2), done=time.monotonic_ns())  # it writes at every pulse
                return store.get_run(run_id(1)).status == "crashed"

            await until(pilot, crashed, seconds=15)
            assert store.get_run(run_id(2)).status == "running"


@pytest.mark.parametrize(("host", "shown"), [("elsewhere", "stale"), (None, "running")])
async def test_silence_is_stale_on_another_machine_only(
    state: StateFolder, make_app: Make, host: str | None, shown: str
) -> None:
    here, me = Machine.here(), ProcessId.of(os.getpid())
    assert me is not None
    add_run(
        state, 1, status="running", ended_at=None, heartbeat_at=NOW - 3600,
        host=host or here.host, boot_id=here.boot_id,
        supervisor_pid=me.pid, supervisor_started=me.started,
    )  # fmt: skip
    async with at_home(make_app, runs=1) as (app, _):
        assert shown in table(app).render_line(1).text


async def test_the_theme_is_remembered(make_app: Make) -> None:
    app = make_app()
    async with app.run_test() as pilot:
        await pilot.press("ctrl+t")
        assert app.theme == "light"
    assert make_app().theme == "light"


async def test_keys_are_remapped_by_id(filled: StateFolder) -> None:
    (filled.root / "app.json").write_text('{"keys": {"home.open": "f12"}}')
    app = MftApp(filled, clock=lambda: NOW)
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: table(app).row_count == 6)
        await pilot.press("f12")
        await until(pilot, lambda: isinstance(app.screen, MonitorScreen))


async def test_a_terminal_that_is_too_small_is_told_and_grown_out_of(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await pilot.resize_terminal(50, 15)
        await until(pilot, lambda: isinstance(app.screen, TooSmall))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_a_damaged_store_is_explained(state: StateFolder, make_app: Make) -> None:
    state.database.write_bytes(b"this is no database at all" * 100)
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: app.screen.has_class("-empty"))
        assert str(state.database) in str(app.screen.query_one("#empty > Static").render())


async def test_help_names_the_keys_of_the_screen_beneath(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("question_mark")
        await until(pilot, lambda: isinstance(app.screen, HelpScreen))
        console = Console(width=80, file=io.StringIO())
        console.print(app.screen.query_one(Static).content)
        words = console.file.getvalue()  # type: ignore[attr-defined]
        for said in ("Replay", "Export", "home.export", "Run the demo"):
            assert said in words


@pytest.mark.parametrize(("seconds", "rings"), [(5, 0), (3600, 1)])
async def test_a_job_that_ends_is_told_with_its_end_and_a_long_one_rings(
    state: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch, seconds: int, rings: int
) -> None:
    began = NOW - seconds
    live = {"host": "elsewhere", "heartbeat_at": time.time(), "ended_at": None}
    add_run(state, 1, name="[/b] tuning", status="running", started_at=began, **live)
    rung: list[None] = []
    monkeypatch.setattr(MftApp, "bell", lambda app: rung.append(None))
    app = make_app()
    async with app.run_test(size=(100, 30)) as pilot:
        await until(pilot, lambda: run_id(1) in app.live)
        with open_store(state.database) as store:
            store.update_run(run_id(1), status="failed", message="out of memory", ended_at=NOW)
        await until(pilot, lambda: len(app._notifications) == 1)
        [told] = app._notifications
        assert (told.title, told.severity) == ("train failed", "error")
        assert told.message == "[/b] tuning: out of memory"
        assert len(rung) == rings
