"""Trouble while the app reads or acts: it is told, once, and the app goes on."""

import pytest
from textual.widgets import OptionList, Static

from mft_tui.app import MftApp
from mft_tui.screens.actions import attempt
from mft_tui.screens.choose import Choose
from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.failures import FailuresScreen
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.quit import QuitScreen
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import add_run, run_id
from tests.mft_tui.app.driving import SMALL, Make, at_home
from tests.mft_tui.app.waiting import until


def _told(app: MftApp) -> list[str]:
    return [f"{told.title}: {told.message}" for told in app._notifications]


async def test_a_store_that_cannot_be_read_is_told_on_every_screen_and_ends_none(
    filled: StateFolder, make_app: Make
) -> None:
    run = add_run(filled, 7)
    filled.database.write_bytes(b"this is no database at all" * 100)
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: app.screen.has_class("-empty"))
        for screen in (FailuresScreen(run, "mbpp"), MonitorScreen([run.id])):
            app.push_screen(screen)
        app.push_screen(CompareScreen([run_id(1), run_id(2)]))
        await until(pilot, lambda: any(str(filled.database) in said for said in _told(app)))
        await pilot.pause(1.5)
        assert app.is_running
        assert app.return_code is None
        about_the_store = [said for said in _told(app) if said.startswith("Could not be done")]
        assert len(about_the_store) == len(set(about_the_store))


async def test_our_own_fault_is_told_and_its_traceback_kept(
    filled: StateFolder, make_app: Make, faults: list[Exception], monkeypatch: pytest.MonkeyPatch
) -> None:
    def breaks(screen: HomeScreen, total: int) -> None:
        raise KeyError("no such thing")

    monkeypatch.setattr(HomeScreen, "_tell", breaks)
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await until(pilot, lambda: _told(app))
        assert "A fault of mft-tui: KeyError: 'no such thing'" in _told(app)[0]
        assert app.is_running
    assert "in breaks" in (filled.root / "app.log").read_text()
    assert {type(error) for error in faults} == {KeyError}
    faults.clear()


async def test_a_deed_that_the_disk_refuses_is_told(filled: StateFolder, make_app: Make) -> None:
    def deed(store: object) -> bool:
        raise PermissionError(13, "Permission denied", "/somewhere")

    async with at_home(make_app) as (app, pilot):
        assert await attempt(app, deed) is None
        await until(pilot, lambda: any("/somewhere" in said for said in _told(app)))


@pytest.mark.parametrize("name", ["[/b] x", "[v2]", "[red]a[/red]"])
async def test_a_name_is_shown_as_it_is(make_app: Make, name: str) -> None:
    app = make_app()
    async with app.run_test(size=SMALL) as pilot:
        await app.push_screen(QuitScreen([name]))
        assert f"{name} is still going." in str(app.screen.query_one(Static).render())
        await app.push_screen(Choose(name, [name]))
        assert str(app.screen.query_one(Static).render()) == name
        choices = app.screen.query_one(OptionList)
        await until(pilot, lambda: choices.render_line(0).text.strip() == name)
