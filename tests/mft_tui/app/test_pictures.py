"""Every screen as it looks, at both sizes: the clock stands still, the cursor does not blink.

The same screens are the README's pictures: ``MFT_PICTURES=$PWD/docs/pictures pytest …``.
"""

import os
import time
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from mft_tui.app import MftApp
from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.failures import FailuresScreen
from mft_tui.screens.help import HelpScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.quit import QuitScreen
from mft_tui.screens.wizard import WizardScreen
from mft_tui.widgets.log_view import LogView
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.run_table import RunTable
from mft_tui.widgets.task_rows import TaskRows
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import NOW, run_id
from tests.mft_tui.app.waiting import until

SIZES = {"80x24": (80, 24), "160x50": (160, 50)}
P = Pilot[int]


async def _home(pilot: P) -> None:
    app = pilot.app
    await until(pilot, lambda: app.screen_stack[0].query_one(RunTable).current is not None)


async def _empty(pilot: P) -> None:
    await until(pilot, lambda: pilot.app.screen.has_class("-empty"))


async def _train(pilot: P) -> None:
    await _home(pilot)
    screen = MonitorScreen([run_id(1)])
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.query("#second"))
    await until(
        pilot,
        lambda: all(
            chart._drawn.plain.strip() and chart.curves and not chart._due
            for chart in screen.query(MetricChart)
        ),
    )
    await until(pilot, lambda: screen.query_one(LogView).row_count == 200)
    screen.query_one("GpuTable").display = False  # this machine's load is no picture


async def _log(pilot: P) -> None:
    await _train(pilot)
    await pilot.press("2")
    await until(pilot, lambda: isinstance(pilot.app.focused, LogView))


async def _evaluate(pilot: P) -> None:
    await _home(pilot)
    screen = MonitorScreen([run_id(4)])
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.query(TaskRows) and screen.query_one(TaskRows)._rows)
    await until(pilot, lambda: screen.query_one(LogView).row_count == 200)
    screen.query_one("GpuTable").display = False


async def _failures(pilot: P) -> None:
    await _home(pilot)
    tracker = pilot.app.tracker  # type: ignore[attr-defined]
    run = await tracker.ask(lambda store: store.get_run(run_id(4)))
    screen = FailuresScreen(run, "mbpp")
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.query(OptionList) and screen._case is not None)


async def _compare(pilot: P) -> None:
    await _home(pilot)
    screen = CompareScreen([run_id(4), run_id(5)])
    pilot.app.push_screen(screen)
    await until(pilot, lambda: len(screen._sides) == 2)
    await pilot.press("3")


async def _help(pilot: P) -> None:
    await _home(pilot)
    await pilot.press("question_mark")
    await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))


async def _quit(pilot: P) -> None:
    await _home(pilot)
    pilot.app.push_screen(QuitScreen(["first training"]))
    await until(pilot, lambda: isinstance(pilot.app.screen, QuitScreen))


async def _settings(pilot: P) -> None:
    await _home(pilot)
    screen = WizardScreen()
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.page is not None)
    screen.draft.of("train").update(padding_mode="pack", seq_length=4096)
    screen._turn_to("settings", enter=True)
    await until(pilot, lambda: screen.query("SettingsStep SettingList"))
    await until(pilot, lambda: screen.draft.found.get("settings"))
    await pilot.press("down", "down")


async def _data(pilot: P) -> None:
    await _home(pilot)
    screen = WizardScreen()
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.page is not None)
    await until(pilot, lambda: isinstance(pilot.app.focused, Input))


SCENES: dict[str, Callable[[P], Awaitable[None]]] = {
    "home": _home,
    "empty": _empty,
    "train": _train,
    "log": _log,
    "evaluate": _evaluate,
    "failures": _failures,
    "compare": _compare,
    "help": _help,
    "quit": _quit,
    "wizard-data": _data,
    "wizard-settings": _settings,
}


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scene", SCENES)
def test_a_screen_looks_as_it_did(
    scene: str,
    size: str,
    request: pytest.FixtureRequest,
    snap_compare: Callable[..., bool],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    state: StateFolder = request.getfixturevalue("state" if scene == "empty" else "filled")
    # The state folder's path is shown in places; a picture must not depend on it.
    monkeypatch.chdir(state.root)
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    app = MftApp(StateFolder(Path()), clock=lambda: NOW, pulse=3600)
    app.animation_level = "none"

    async def before(pilot: P) -> None:
        await SCENES[scene](pilot)
        for line in app.screen.query(Input):
            line.cursor_blink = False
        await pilot.pause()
        if folder := os.environ.get("MFT_PICTURES"):
            picture = Path(folder, f"{scene}-{size}.svg")
            picture.write_text(app.export_screenshot(title="mft-tui"))

    assert snap_compare(app, terminal_size=SIZES[size], run_before=before)
