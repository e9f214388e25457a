"""The log pane, on files that grow."""

import threading

import psutil
import pytest
from textual.pilot import Pilot

from mft_tui.app import MftApp
from mft_tui.widgets.log_file import BLOCK, Extent, LogFile
from mft_tui.widgets.log_pane import LogPane
from mft_tui.widgets.log_view import LogView
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import run_id
from tests.mft_tui.app.driving import SMALL, Make, open_log, open_monitor
from tests.mft_tui.app.waiting import until


def _shown(view: LogView) -> str:
    return "\n".join(view.render_line(y).text.rstrip() for y in range(view.size.height))


async def test_the_log_follows_its_file(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await open_log(app, pilot)
        await until(pilot, lambda: "line 199" in _shown(view))
        with filled.run(run_id(1)).console.open("a") as file:
            file.write("new\r" * 5 + "\x1b[31mnewest\x1b[0m\n")
        await until(pilot, lambda: "newest" in _shown(view))


async def test_scrolling_lets_go_and_end_comes_back_with_the_lines_counted(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("pageup")
        assert not view.following
        with filled.run(run_id(1)).console.open("a") as file:
            file.write("more\n" * 1204)
        await until(pilot, lambda: view.new_lines == 1204)
        pane = app.screen.query_one(LogPane)
        assert str(pane.border_subtitle).startswith("+1,204 lines")
        await pilot.press("end")
        assert view.following
        await until(pilot, lambda: "more" in _shown(view))
        await pilot.press("home")
        await until(pilot, lambda: "line 0" in _shown(view))


async def test_a_filter_leaves_the_lines_that_match(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await open_log(app, pilot)
        await pilot.press("ampersand", *"/7$/", "enter")
        await until(pilot, lambda: view.row_count == 20)
        assert "line 187" in _shown(view)
        assert "line 188" not in _shown(view)
        await pilot.press("ampersand", *["backspace"] * 4, "enter")
        await until(pilot, lambda: view.row_count == 200)


async def test_marked_lines_are_copied_without_their_colours(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await open_log(app, pilot)
        with filled.run(run_id(1)).console.open("a") as file:
            file.write("\x1b[31mred\x1b[0m\n")
        await until(pilot, lambda: "red" in _shown(view))
        await pilot.press("up", "down", "v", "up", "y")
        await until(pilot, lambda: app.clipboard == "line 199\nred")


async def test_long_lines_are_wrapped_on_demand(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await open_log(app, pilot)
        with filled.run(run_id(1)).console.open("a") as file:
            file.write("start " + "x" * 200 + " finish\n")
        await until(pilot, lambda: "start" in _shown(view))
        assert "finish" not in _shown(view)
        await pilot.press("w")
        await until(pilot, lambda: "finish" in _shown(view))


async def test_a_search_through_a_large_log_leaves_the_pane_alive_and_can_be_given_up(
    filled: StateFolder, make_app: Make
) -> None:
    console = filled.run(run_id(1)).console
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await open_log(app, pilot)
        with console.open("a") as file:
            file.write("nothing of note\n" * 5_000_000)
        await until(pilot, lambda: view.row_count == 5_000_200)
        pane = app.screen.query_one(LogPane)
        await pilot.press("slash", *"absent", "enter")
        await until(pilot, lambda: view.searching is not None)
        with console.open("a") as file:
            file.write("written meanwhile\n")
        await until(pilot, lambda: view.row_count == 5_000_201)
        assert view.searching is not None
        assert str(pane.border_subtitle).startswith("searching, at line")
        await pilot.press("escape")
        await until(pilot, lambda: view.searching is None)
        assert app.screen.query(LogPane)  # the screen has not been left


_LINES = 40_000


@pytest.fixture
def counting(filled: StateFolder, monkeypatch: pytest.MonkeyPatch) -> threading.Event:
    """The first run's log is long, and its lines are not counted to the end until this is set."""
    lines = [f"line {n:07d}" for n in range(_LINES)]
    lines[20_000] += " needle"
    filled.run(run_id(1)).console.write_text("\n".join(lines) + "\n")
    go_on, advance = threading.Event(), LogFile.advance

    def held(log: LogFile) -> Extent:
        return advance(log) if go_on.is_set() else advance(log, BLOCK if not log._indexed else 0)

    monkeypatch.setattr(LogFile, "advance", held)
    return go_on


async def _open_uncounted(app: MftApp, pilot: Pilot[int]) -> LogView:
    screen = await open_monitor(app, pilot, 1)
    screen.action_view("log")
    view = screen.query_one(LogView)
    await until(pilot, lambda: app.focused is view and f"{_LINES - 1:07d}" in _shown(view))
    assert not view.extent.complete
    return view


async def test_a_search_that_is_asked_for_while_lines_are_counted_goes_through_all_of_them(
    counting: threading.Event, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await _open_uncounted(app, pilot)
        await pilot.press("slash", *"needle", "enter")
        pane = app.screen.query_one(LogPane)
        await until(pilot, lambda: "then searching" in str(pane.border_subtitle))
        counting.set()
        await until(pilot, lambda: view.cursor == 20_000 and "needle" in _shown(view))
        assert not app._notifications


async def test_a_search_that_waits_for_the_count_can_be_given_up(
    counting: threading.Event, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await _open_uncounted(app, pilot)
        await pilot.press("slash", *"needle", "enter")
        await until(pilot, lambda: view.searching is not None)
        await pilot.press("escape")
        await until(pilot, lambda: view.searching is None)
        counting.set()
        await until(pilot, lambda: view.row_count == _LINES)
        assert view.following


async def test_who_reads_on_in_the_tail_stays_there_when_all_lines_are_counted(
    counting: threading.Event, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        view = await _open_uncounted(app, pilot)
        await pilot.press("pageup", "up")
        shown, row = _shown(view), view.row_count - view.cursor
        counting.set()
        await until(pilot, lambda: view.row_count == _LINES)
        await until(pilot, lambda: _shown(view) == shown)
        assert view.cursor == _LINES - row
        assert view.new_lines == 0


async def test_leaving_closes_the_log(filled: StateFolder, make_app: Make) -> None:
    console = filled.run(run_id(1)).console
    app = make_app()

    def is_open() -> bool:
        return any(f.path == str(console) for f in psutil.Process().open_files())

    async with app.run_test(size=SMALL) as pilot:
        view = await open_log(app, pilot)
        await until(pilot, is_open)
        view._look()
        await pilot.press("escape", "escape")
        await until(pilot, lambda: not is_open())
        await pilot.pause(0.5)
        assert not is_open()
