"""Launching, exporting and deleting from the app: what is begun once, and what outlives it."""

import asyncio
import json
import time
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Static

from db import LIVE_STATUSES, RunQuery, open_store
from mft_tui.app import MftApp
from mft_tui.screens import launching
from mft_tui.screens.actions import generations_of, launch_config, trash_runs
from mft_tui.screens.ask import Confirm
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.launching import HashingScreen
from mft_tui.screens.quit import QuitScreen
from mft_tui.screens.wizard import WizardScreen
from mft_tui.screens.wizard.draft import Draft, Drafts
from mft_tui.screens.wizard.review import ReviewScreen
from runners.config import ExportConfig
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import add_run, run_id
from tests.mft_tui.app.driving import Make, at_home, table
from tests.mft_tui.app.waiting import until
from tests.mft_tui.app.walking import Press, on, walk

SLOW = 64 << 30
"""A hole of so many bytes takes a minute to hash, and no space."""

home = on(HomeScreen)

LEFT_TO_ITSELF = [Press("hashing.leave", "escape", home)]
GIVEN_UP = [Press("hashing.give_up", "g", home)]
WALKS = [LEFT_TO_ITSELF, GIVEN_UP]


@pytest.fixture
def slow(tmp_path: Path) -> ExportConfig:
    """An export whose input takes long to hash."""
    folder = tmp_path / "generations_m"
    folder.mkdir()
    with (folder / "hole").open("wb") as file:
        file.truncate(SLOW)
    return ExportConfig(generations=folder)


def _begin(app: MftApp, config: ExportConfig) -> "asyncio.Task[Any]":
    return app.in_background(launch_config(app, config, name="slow"))


async def _hashing(app: MftApp, pilot: Any) -> HashingScreen:
    await until(pilot, lambda: isinstance(app.screen, HashingScreen))
    screen = app.screen
    assert isinstance(screen, HashingScreen)
    await until(pilot, lambda: "of 64" in str(screen.query_one("#share", Static).render()))
    return screen


async def test_a_long_launch_is_shown_and_can_be_left_and_not_begun_twice(
    filled: StateFolder, make_app: Make, slow: ExportConfig
) -> None:
    async with at_home(make_app) as (app, pilot):
        _begin(app, slow)
        await _hashing(app, pilot)
        await walk(app, pilot, LEFT_TO_ITSELF)
        assert len(app.launches) == 1
        assert await _begin(app, slow) is None
        assert "goes on already" in [told.message for told in app._notifications][-1]
        # What is done with other runs does not wait for it.
        began = time.monotonic()
        assert await app.actor.ask(lambda store: store.get_run(run_id(1)))
        assert time.monotonic() - began < 2
        for launcher in list(app.launches.values()):
            launcher.give_up()
        await until(pilot, lambda: not app.launches)


async def test_a_launch_can_be_given_up(
    filled: StateFolder, make_app: Make, slow: ExportConfig
) -> None:
    async with at_home(make_app) as (app, pilot):
        launch = _begin(app, slow)
        await _hashing(app, pilot)
        await walk(app, pilot, GIVEN_UP)
        assert await launch is None
        with open_store(filled.database) as store:
            assert store.list_runs().total == 6


@pytest.mark.parametrize(("key", "goes_on"), [("d", True), ("s", False)])
async def test_leaving_while_something_is_launched_asks(
    filled: StateFolder, make_app: Make, slow: ExportConfig, key: str, goes_on: bool
) -> None:
    async with at_home(make_app) as (app, pilot):
        launch = _begin(app, slow)
        await until(pilot, lambda: app.launches)
        [launcher] = app.launches.values()
        await pilot.press("ctrl+q")
        await until(pilot, lambda: isinstance(app.screen, QuitScreen))
        assert "the launch of" in str(app.screen.query_one(Static).render())
        await pilot.press(key)
        await until(pilot, lambda: app.return_value == 0)
        launch.cancel()
    assert (launcher.process.poll() is None) is goes_on
    launcher.give_up()


@pytest.mark.parametrize("meanwhile", ["left", "left and opened again", "another draft"])
async def test_a_draft_knows_its_run_wherever_the_person_was_when_it_was_launched(
    filled: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch, meanwhile: str
) -> None:
    answers = filled.run(run_id(3)).path / "artifacts" / "generations_m"
    answers.mkdir(parents=True)
    drafts, go_on, begun = Drafts(filled.root / "drafts"), asyncio.Event(), asyncio.Event()
    drafts.save(Draft("mine", "export", {"export": {"generations": str(answers)}}))
    follow = launching.follow_launch

    async def hashed_for_long(*arguments: Any) -> str | None:
        begun.set()
        await go_on.wait()
        return await follow(*arguments)

    monkeypatch.setattr(launching, "follow_launch", hashed_for_long)
    async with at_home(make_app) as (app, pilot):
        wizard = await _wizard(app, pilot, "mine")
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.screen, ReviewScreen) and app.screen.review)
        await pilot.press("enter")
        await until(pilot, begun.is_set)
        if meanwhile == "another draft":
            wizard._open(None, fresh=True)
            await until(pilot, lambda: wizard.draft.name == "draft" and wizard.page is not None)
        else:
            wizard.action_leave()
            await until(pilot, lambda: isinstance(app.screen, HomeScreen))
        if meanwhile == "left and opened again":
            again = await _wizard(app, pilot, "mine")
            again.draft.of("export")["output"] = "elsewhere.zip"
        go_on.set()
        await until(pilot, lambda: drafts.load("mine").runs)  # type: ignore[union-attr]
        kept = drafts.load("mine")
        assert kept is not None
        with open_store(filled.database) as store:
            assert store.get_run(kept.runs["export"]).kind == "export"
        if meanwhile == "another draft":
            assert wizard.draft.runs == {}
        if meanwhile == "left and opened again":
            assert again.draft.runs == kept.runs

            def both() -> bool:
                found = drafts.load("mine")
                return found is not None and "output" in found.of("export") and bool(found.runs)

            await until(pilot, both)
        await until(pilot, lambda: _ended(filled, kept.runs["export"]))


async def test_a_draft_finds_the_run_whose_launch_outlived_the_app(
    filled: StateFolder, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = filled.run(run_id(3)).path / "artifacts" / "generations_m"
    answers.mkdir(parents=True)
    drafts, begun = Drafts(filled.root / "drafts"), asyncio.Event()
    drafts.save(Draft("mine", "export", {"export": {"generations": str(answers)}}))

    async def never_seen_to_its_end(*arguments: Any) -> str | None:
        begun.set()
        await asyncio.Event().wait()
        return None

    with monkeypatch.context() as patched:
        patched.setattr(launching, "follow_launch", never_seen_to_its_end)
        async with at_home(make_app) as (app, pilot):
            wizard = await _wizard(app, pilot, "mine")
            await pilot.press("f5")
            await until(pilot, lambda: isinstance(app.screen, ReviewScreen) and app.screen.review)
            await pilot.press("enter")
            await until(pilot, begun.is_set)
            await until(pilot, lambda: drafts.load("mine").launching)  # type: ignore[union-attr]
            wanted = wizard.draft.launching["export"]
            assert wizard.draft.runs == {}
            # It is on its own from here on; what is waited for is no part of the app.
            await until(pilot, lambda: _is_there(filled, wanted))
    async with at_home(make_app, runs=7) as (app, pilot):
        wizard = await _wizard(app, pilot, "mine")
        await until(pilot, lambda: wizard.draft.runs == {"export": wanted})
        assert wizard.draft.launching == {}
        await until(pilot, lambda: drafts.load("mine").runs)  # type: ignore[union-attr]
        await until(pilot, lambda: _ended(filled, wanted))


def _is_there(state: StateFolder, wanted: str) -> bool:
    with open_store(state.database) as store:
        return any(row.run.id == wanted for row in store.list_runs().rows)


async def _wizard(app: MftApp, pilot: Any, name: str) -> WizardScreen:
    wizard = WizardScreen(name)
    app.push_screen(wizard)
    await until(pilot, lambda: wizard.draft.name == name and wizard.page is not None)
    return wizard


def _ended(state: StateFolder, wanted: str) -> bool:
    with open_store(state.database) as store:
        return store.get_run(wanted).status not in LIVE_STATUSES


async def test_x_exports_once_however_often_it_is_pressed(
    filled: StateFolder, make_app: Make
) -> None:
    answers = filled.run(run_id(3)).path / "artifacts" / "generations_m"
    answers.mkdir(parents=True)
    (answers / "generations_mbpp_m.json").write_text("[]")
    async with at_home(make_app) as (app, pilot):
        await pilot.press("end")  # the training; its generation is found below it
        await pilot.press("x", "x", "x")
        exports: list[str] = []

        def ended() -> bool:
            with open_store(filled.database) as store:
                rows = store.list_runs(RunQuery(filter="kind:export")).rows
            exports[:] = [row.run.id for row in rows]
            return bool(rows) and rows[0].run.status not in LIVE_STATUSES

        await until(pilot, ended)
        await until(pilot, lambda: not app.under_way)
        assert ended()
        assert len(exports) == 1
        with open_store(filled.database) as store:
            assert store.get_run(exports[0]).parent_id == run_id(3)


@pytest.mark.parametrize("status", ["running", "failed", "stopped", "crashed"])
def test_a_generation_that_did_not_finish_is_no_submission(
    filled: StateFolder, status: str
) -> None:
    for number in (3, 7):
        (filled.run(run_id(number)).path / "artifacts" / "generations_m").mkdir(parents=True)
    add_run(filled, 7, kind="generate", parent_id=run_id(1), status=status)
    with open_store(filled.database) as store:
        found = generations_of(store, store.get_run(run_id(1)))
        assert found is not None
        assert found[0] == run_id(3)
        assert generations_of(store, store.get_run(run_id(7))) != run_id(7)


async def test_a_run_that_goes_on_again_since_it_was_marked_is_not_deleted(
    filled: StateFolder, make_app: Make
) -> None:
    async with at_home(make_app) as (app, pilot):
        with open_store(filled.database) as store:
            marked = [store.get_run(run_id(number)) for number in (1, 6)]
            store.update_run(run_id(6), status="running", host="elsewhere")
        deleting = app.in_background(_in_a_worker(app, marked))
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("y")
        assert await deleting is False
        assert "out of memory goes on again" in [t.message for t in app._notifications][-1]
    with open_store(filled.database) as store:
        assert store.list_runs().total == 6


async def _in_a_worker(app: MftApp, runs: list[Any]) -> bool:
    """A dialog is waited for in a worker alone."""
    worker = app.run_worker(trash_runs(app, runs))
    return bool(await worker.wait())


async def test_a_mark_keeps_up_with_its_run(filled: StateFolder, make_app: Make) -> None:
    async with at_home(make_app) as (app, pilot):
        await pilot.press("space")
        with open_store(filled.database) as store:
            store.update_run(run_id(6), status="running", host="elsewhere")
        await until(pilot, lambda: table(app).marked[run_id(6)].run.status == "running")


async def test_a_replay_is_planned_once(filled: StateFolder, make_app: Make) -> None:
    async with at_home(make_app) as (app, pilot):
        screen = app.screen
        assert isinstance(screen, HomeScreen)
        screen.action_replay()
        screen.action_replay()
        await until(pilot, lambda: isinstance(app.screen, Confirm))
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen) and not app.under_way)
        assert ["goes on already" in told.message for told in app._notifications] == [True]


async def test_a_refusal_of_a_launch_that_outlived_the_app_is_told_by_the_next(
    filled: StateFolder, make_app: Make
) -> None:
    folder = filled.root / "launches"
    folder.mkdir()
    gone = {"host": _host(), "pid": 2**22 - 1, "started": 1.0}
    request = {"run_id": "x", "kind": "export", "config": {}, **gone}
    (folder / "x.request").write_text(json.dumps(request))
    (folder / "x.jsonl").write_text('{"type":"refused","words":"no space was left"}\n')
    async with at_home(make_app) as (app, pilot):
        await until(pilot, lambda: [t.message for t in app._notifications] == ["no space was left"])
    assert list(folder.iterdir()) == []


def _host() -> str:
    from runners.lifecycle.processes import Machine

    return Machine.here().host
