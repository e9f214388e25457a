"""Every key of home, the monitor, the log, failures and comparing: pressed, and its effect seen.

The keys of the wizard are walked in ``test_keys_wizard``. The last test here holds both together:
a binding that nobody presses is a failure.
"""

from collections.abc import Callable
from typing import Any

import pytest
from textual.command import CommandPalette
from textual.widgets import Input, Static

from mft_tui.screens.ask import AskText, Confirm
from mft_tui.screens.columns import ColumnsScreen
from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.failures import FailuresScreen
from mft_tui.screens.help import HelpScreen
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.quit import QuitScreen
from mft_tui.screens.wizard import WizardScreen
from mft_tui.widgets.log_view import LogView
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.run_table import RunTable
from mft_tui.widgets.task_rows import TaskRows
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app import test_keys_wizard, test_launching
from tests.mft_tui.app.conftest import NOW, add_run, run_id
from tests.mft_tui.app.driving import ROOMY, Make, at_home, open_log, open_monitor, table
from tests.mft_tui.app.waiting import until
from tests.mft_tui.app.walking import Press, bindings, on, walk


def _table(app: Any) -> RunTable:
    return app.screen_stack[0].query_one(RunTable)


def _cursor(row: int) -> Callable[[Any], bool]:
    return lambda app: table(app).cursor == row


def _rows(count: int) -> Callable[[Any], bool]:
    return lambda app: table(app).row_count == count


home, dialog = on(HomeScreen), on(Confirm)

HOME = [
    Press("runs.down", "down", _cursor(1)),
    Press("runs.down", "j", _cursor(2)),
    Press("runs.up", "up", _cursor(1)),
    Press("runs.up", "k", _cursor(0)),
    Press("runs.last", "end", _cursor(5)),
    Press("runs.first", "home", _cursor(0)),
    Press("runs.last", "G", _cursor(5)),
    Press("runs.first", "g", _cursor(0)),
    Press("runs.page_down", "pagedown", _cursor(5)),
    Press("runs.page_up", "pageup", _cursor(0)),
    Press("runs.mark", "space", lambda app: list(table(app).marked) == [run_id(6)]),
    Press("home.clear", "escape", lambda app: not table(app).marked),
    Press("home.sort", "o", lambda app: table(app).sort == "name"),
    Press("home.turn", "O", lambda app: table(app).sort == "-name" and table(app).current),
    Press("home.copy", "y", lambda app: app.clipboard.startswith("mft-tui runs show")),
    Press("home.filter", "slash", lambda app: isinstance(app.focused, Input)),
    Press("app.help_anywhere", "f1", on(HelpScreen)),
    Press("help.close", "escape", home),
    Press("home.clear", "escape", lambda app: isinstance(app.focused, RunTable)),
    Press("app.help", "question_mark", on(HelpScreen)),
    Press("help.close", "question_mark", home),
    Press("", "question_mark", on(HelpScreen)),
    Press("help.close", "q", home),
    Press("home.columns", "C", on(ColumnsScreen)),
    Press("columns.cancel", "escape", home),
    Press("", "C", on(ColumnsScreen)),
    Press("columns.add", "a", lambda app: isinstance(app.focused, Input)),
    Press("", "tab", lambda app: not isinstance(app.focused, Input)),
    Press("columns.keep", "enter", lambda app: len(app.preferences.columns) > 5),
    Press("app.theme", "ctrl+t", lambda app: app.theme == "light"),
    Press("app.palette", "ctrl+p", on(CommandPalette)),
    Press("", "escape", home),
    Press("home.demo", "D", dialog),
    Press("confirm.no", "n", home),
    Press("home.new", "n", on(WizardScreen)),
    Press("", "escape", home),
    Press("home.open", "enter", on(MonitorScreen)),
    Press("monitor.back", "escape", home),
    Press("home.open", "enter", on(MonitorScreen)),
    Press("monitor.back", "q", home),
    Press("home.note", "e", on(AskText)),
    Press("ask.cancel", "escape", home),
    Press("home.tag", "t", on(AskText)),
    Press("ask.cancel", "escape", home),
    Press("home.replay", "r", dialog),
    Press("confirm.no", "escape", home),
    Press("", "space", lambda app: len(table(app).marked) == 1),
    Press("", "space", lambda app: len(table(app).marked) == 2),
    Press("home.compare", "c", on(CompareScreen)),
    Press("compare.back", "q", home),
    Press("home.clear", "escape", lambda app: not table(app).marked),
    Press("home.delete", "d", dialog),
    Press("confirm.yes", "y", _rows(5)),
    Press("home.delete", "delete", dialog),
    Press("confirm.yes", "enter", _rows(4)),
    Press("home.quit", "q", lambda app: app.return_value == 0),
]

HOME_OF_A_FAILURE = [
    Press("home.resume", "u", dialog),
    Press("", "escape", home),
    Press("home.export", "x", lambda app: len(app._notifications) == 1),
    Press("", "enter", on(MonitorScreen)),
    Press("monitor.resume", "u", dialog),
    Press("", "escape", on(MonitorScreen)),
    Press("monitor.export", "x", lambda app: len(app._notifications) == 2),
    Press("monitor.copy", "c", lambda app: app.clipboard == f"mft-tui attach {run_id(6)}"),
    Press("app.quit", "ctrl+q", lambda app: app.return_value == 0),
]


async def test_the_keys_of_home(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await until(pilot, lambda: table(app).row_count == 6)
        await walk(app, pilot, HOME)


async def test_the_keys_for_a_run_that_failed(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await until(pilot, lambda: table(app).row_count == 6)
        await walk(app, pilot, HOME_OF_A_FAILURE)


def _asked_to_stop(app: Any) -> bool:
    return bool(app.state.run(run_id(1)).stop_request.exists())


def _forget(app: Any) -> bool:
    app.state.run(run_id(1)).stop_request.unlink(missing_ok=True)
    return True


def _left(app: Any) -> bool:
    return bool(app.return_value == 0)


LEAVING = {
    "d": [Press("", "q", on(QuitScreen)), Press("quit.detach", "d", _left)],
    "q": [Press("", "q", on(QuitScreen)), Press("quit.detach", "q", _left)],
    "s": [
        Press("home.stop", "s", _asked_to_stop),
        Press("", "enter", on(MonitorScreen)),
        Press("", "1", lambda app: app.screen.run is not None and _forget(app)),
        Press("monitor.stop", "s", _asked_to_stop),
        Press("", "ctrl+q", on(QuitScreen)),
        Press("quit.stay", "escape", on(MonitorScreen)),
        Press("", "1", _forget),
        Press("", "ctrl+q", on(QuitScreen)),
        Press("quit.stop", "s", lambda app: app.return_value == 0 and _asked_to_stop(app)),
    ],
}


@pytest.mark.parametrize("answer", LEAVING)
async def test_the_keys_while_a_job_goes_on(
    state: StateFolder, make_app: Make, answer: str
) -> None:
    add_run(state, 1, status="running", ended_at=None, heartbeat_at=NOW, host="elsewhere")
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await until(pilot, lambda: app.live and table(app).current)
        await walk(app, pilot, LEAVING[answer])


# The monitor


def _chart(app: Any) -> MetricChart:
    return app.screen.query_one("#loss", MetricChart)


def _second(app: Any) -> list[str]:
    return [curve.name for curve in app.screen.query_one("#second", MetricChart).curves]


def _viewed(name: str) -> Callable[[Any], bool]:
    return lambda app: app.screen.has_class(f"-view-{name}")


def _window(app: Any) -> tuple[float, float]:
    window = _chart(app).window
    return (window.low, window.high) if window is not None else (0, 0)


MONITOR = [
    Press("chart.log", "l", lambda app: _chart(app).log_axis),
    Press("chart.smooth", "m", lambda app: _chart(app).weight == 0.6),
    Press("chart.left", "left", lambda app: _chart(app).cursor < 600),
    Press("chart.right", "right", lambda app: _chart(app).cursor == 600),
    Press("chart.in", "plus", lambda app: _window(app) == (305, 600)),
    Press("chart.in", "equals_sign", lambda app: _window(app) == (452.5, 600)),
    Press("chart.pan_left", "shift+left", lambda app: _window(app) == (378.75, 526.25)),
    Press("chart.pan_right", "shift+right", lambda app: _window(app) == (452.5, 600)),
    Press("chart.out", "minus", lambda app: _window(app) == (305, 600)),
    Press("chart.whole", "0", lambda app: _chart(app).window is None),
    Press("monitor.next_metric", "full_stop", lambda app: _second(app) == ["tokens_per_second"]),
    Press("monitor.previous_metric", "comma", lambda app: _second(app) == ["lr"]),
    Press("monitor.log", "2", _viewed("log")),
    Press("monitor.side", "3", _viewed("side")),
    Press("monitor.pane", "4", _viewed("pane")),
    Press("monitor.all", "1", lambda app: not _viewed("pane")(app)),
    Press("monitor.next", "right_square_bracket", lambda app: app.screen.run.id == run_id(4)),
    Press("monitor.previous", "left_square_bracket", lambda app: app.screen.run.id == run_id(1)),
]


async def test_the_keys_of_the_monitor(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await open_monitor(app, pilot, 1, 4)
        await until(pilot, lambda: len(_chart(app).curves) == 3 and _second(app) == ["lr"])
        await walk(app, pilot, MONITOR)


def _log(app: Any) -> LogView:
    return app.screen.query_one(LogView)


def _line(number: int) -> Callable[[Any], bool]:
    return lambda app: _log(app).cursor == number


def _asked(what: str) -> Callable[[Any], bool]:
    return lambda app: app.screen.query_one("LogPane Input", Input).placeholder.startswith(what)


LOG = [
    Press("log.up", "up", _line(198)),
    Press("log.up", "k", _line(197)),
    Press("log.down", "down", _line(198)),
    Press("log.down", "j", _line(199)),
    Press("log.page_up", "pageup", lambda app: _log(app).cursor < 190),
    Press("log.page_down", "pagedown", _line(199)),
    Press("log.top", "home", _line(0)),
    Press("log.follow", "end", lambda app: _log(app).following),
    Press("log.top", "g", _line(0)),
    Press("log.mark", "v", lambda app: _log(app)._mark == 0),
    Press("", "down", _line(1)),
    Press("log.copy", "y", lambda app: app.clipboard == "line 0\nline 1"),
    Press("log.search", "slash", _asked("search")),
    *(Press("", key, lambda app: True) for key in "17"),
    Press("", "enter", lambda app: isinstance(app.focused, LogView)),
    Press("log.next", "n", _line(17)),
    Press("log.next", "n", _line(117)),
    Press("log.previous", "N", _line(17)),
    Press("log.filter", "ampersand", _asked("filter")),
    *(Press("", key, lambda app: True) for key in "17"),
    Press("", "enter", lambda app: _log(app).row_count == 12),
    Press("log.wrap", "w", lambda app: _log(app).wrap),
    Press("", "k", lambda app: not _log(app).following),
    Press("log.follow", "G", lambda app: _log(app).following),
]


async def test_the_keys_of_the_log(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await open_log(app, pilot)
        await walk(app, pilot, LOG)


# Failures and comparing


def _task(row: int) -> Callable[[Any], bool]:
    return lambda app: app.screen.query_one(TaskRows).cursor == row


def _part(name: str) -> Callable[[Any], bool]:
    return lambda app: app.screen._part == name


FAILURES = [
    Press("tasks.down", "down", _task(1)),
    Press("tasks.up", "up", _task(0)),
    Press("tasks.down", "j", _task(1)),
    Press("tasks.up", "k", _task(0)),
    Press("tasks.choose", "enter", on(FailuresScreen)),
    Press("failures.code", "2", _part("code")),
    Press("failures.diff", "3", _part("diff")),
    Press("failures.prompt", "4", _part("prompt")),
    Press("failures.tests", "5", _part("tests")),
    Press("failures.error", "1", _part("error")),
    Press("failures.next_part", "right", _part("code")),
    Press("failures.next_part", "p", _part("diff")),
    Press("failures.previous_part", "left", _part("code")),
    Press("failures.back", "escape", on(MonitorScreen)),
    Press("", "enter", on(FailuresScreen)),
    Press("failures.back", "q", on(MonitorScreen)),
]


async def test_the_keys_of_tasks_and_their_failures(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 4)
        await until(pilot, lambda: len(screen.query_one(TaskRows)._rows) == 13)
        screen.query_one(TaskRows).focus()
        await walk(app, pilot, FAILURES)


def _compared(name: str) -> Callable[[Any], bool]:
    return lambda app: app.screen._view == name


def _curve_of(key: str) -> Callable[[Any], bool]:
    return lambda app: app.screen.query_one(MetricChart)._heading == key


COMPARE = [
    Press("compare.settings", "1", _compared("settings")),
    Press("compare.scores", "3", _compared("scores")),
    Press("compare.flips", "4", _compared("flips")),
    Press("compare.curves", "2", _curve_of("loss")),
    Press("compare.next_metric", "full_stop", _curve_of("loss/java")),
    Press("compare.previous_metric", "comma", _curve_of("loss")),
    Press("compare.copy", "y", lambda app: app.clipboard.startswith("mft-tui runs compare")),
    Press("compare.back", "escape", home),
]


async def test_the_keys_of_comparing(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = CompareScreen([run_id(1), run_id(2)])
        app.push_screen(screen)
        await until(pilot, lambda: screen.found and screen.query_one("#views", Static).content)
        await walk(app, pilot, COMPARE)


SUSPENDING = ("app.suspend", "ctrl+z")
"""A real terminal is needed for this one: ``test_terminal`` presses it there."""


async def test_the_palette_offers_what_the_line_of_keys_has_no_room_for(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        offered = [command.title for command in app.get_system_commands(app.screen)]
        assert {"Delete", "Note", "Tags", "Sort", "Columns", "Run the demo", "Open"} <= {*offered}
        assert not {"Up", "Page down", "Stop"} & {*offered}  # keys to hold, and nothing to stop
        assert len(offered) == len(set(offered))
        command = next(c for c in app.get_system_commands(app.screen) if c.title == "Note")
        command.callback()
        await until(pilot, lambda: isinstance(app.screen, AskText))


def test_every_binding_is_pressed_by_a_test() -> None:
    walks = [HOME, HOME_OF_A_FAILURE, *LEAVING.values(), MONITOR, LOG, FAILURES, COMPARE]
    walks += [*test_keys_wizard.WALKS, *test_launching.WALKS]
    pressed = {(press.name, press.key) for steps in walks for press in steps}
    assert set(bindings()) - {SUSPENDING} == {(n, k) for n, k in pressed if n}
