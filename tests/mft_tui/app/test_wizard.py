"""The wizard, from folders to a review. What each key does is in ``test_keys_wizard``."""

import json
import threading
import tracemalloc
from pathlib import Path

import pytest
from textual.widgets import OptionList, Static

from mft_tui.app import MftApp
from mft_tui.screens.choose import Choose
from mft_tui.screens.wizard import WizardScreen, data_step
from mft_tui.screens.wizard.draft import STEPS
from mft_tui.screens.wizard.records import counted, record_at
from mft_tui.screens.wizard.review import ReviewScreen
from mft_tui.widgets.command_line import CommandLine
from mft_tui.widgets.path_input import PathInput
from mft_tui.widgets.setting_list import SettingList
from mft_tui.widgets.themes import THEMES
from mft_tui.widgets.title_bar import TitleBar
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.driving import ROOMY, Make, open_wizard
from tests.mft_tui.app.waiting import until


def _said(app: MftApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


async def test_data_is_checked_at_once_and_its_problems_are_walked_through(
    data: Path, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen.query_one(PathInput).value = str(data)
        screen.query_one(PathInput).focus()
        await pilot.press("enter")
        await until(pilot, lambda: screen.draft.found.get("data", "").startswith("problem"))
        problems = screen.query_one("#problems", OptionList)
        problems.focus()
        await pilot.press("down")
        await until(pilot, lambda: "a.jsonl:2" in _said(app, "#record"))
        assert screen.query_one(CommandLine).argv == ("mft-tui", "validate", str(data))
        await pilot.press("down")
        await until(pilot, lambda: "duplicate" in _said(app, "#record"))
        tasks = screen.query_one("#tasks", OptionList)
        tasks.focus()
        await pilot.press("down", "delete")
        await until(pilot, lambda: "data_paths" not in screen.draft.of("train"))


async def test_a_folder_that_is_not_there_is_said(make_app: Make, tmp_path: Path) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen.query_one(PathInput).value = str(tmp_path / "nowhere")
        screen.query_one(PathInput).focus()
        await pilot.press("enter")
        await until(pilot, lambda: "not there" in _said(app, "#progress"))


async def test_a_model_is_described_and_its_memory_estimated(
    data: Path, model: Path, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen.draft.of("train")["data_paths"] = [str(data / "python")]
        await pilot.press("f3")
        await until(pilot, lambda: screen.draft.step == "model" and screen.page is not None)
        line = screen.query_one("ModelStep PathInput", PathInput)
        line.value = str(model)
        line.focus()
        await pilot.press("enter")
        await until(pilot, lambda: screen.draft.found.get("model") == "ok: model")
        await pilot.press("f3")
        await until(pilot, lambda: screen.draft.found.get("hardware", "").startswith("ok"))


async def test_the_review_says_what_is_missing_and_does_not_launch(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.screen, ReviewScreen))
        review = app.screen
        assert isinstance(review, ReviewScreen)
        await until(pilot, lambda: review.review is not None)
        missing = "pretrained_model_path must be given"
        await until(pilot, lambda: missing in _said(app, "#words"))
        await pilot.press("enter")
        assert app.screen is review
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)


async def test_a_draft_outlives_the_app(make_app: Make, state: StateFolder) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        await pilot.press("f3", "f3", "f3")
        await until(pilot, lambda: isinstance(app.focused, SettingList))
        await pilot.press("down", "down", "right", "f3")
        await until(pilot, lambda: screen.draft.step == "train")
        await until(pilot, (state.root / "drafts/draft/train.json").exists)
    again = make_app()
    async with again.run_test(size=ROOMY) as pilot:
        screen = WizardScreen()
        again.push_screen(screen)
        await until(pilot, lambda: getattr(screen, "draft", None) and screen.draft.step == "train")
        assert screen.draft.of("train") == {"padding_mode": "pack"}
        await pilot.press("f7")
        await until(pilot, lambda: isinstance(again.screen, Choose))
        await pilot.press("enter")
        await until(pilot, lambda: screen.draft.name == "draft-2")


async def test_every_step_can_be_done_alone_and_names_its_command(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        commands = {}
        for step in STEPS:
            await until(pilot, lambda step=step: screen.draft.step == step and screen.page)
            await until(pilot, lambda: screen.query_one(CommandLine).argv)
            commands[step] = screen.query_one(CommandLine).argv[1]
            await pilot.press("f3")
        assert list(commands.values()) == [
            "validate", "estimate", "estimate", "config", "train", "generate", "evaluate", "export",
        ]  # fmt: skip
        await pilot.press("f2", "f8")
        assert app.clipboard.startswith("mft-tui")


async def test_what_a_model_folder_says_of_itself_is_shown_as_it_is(
    make_app: Make, tmp_path: Path
) -> None:
    odd = tmp_path / "[" / "b] [v2]"
    odd.mkdir(parents=True)
    (odd / "config.json").write_text('{"model_type": "[/b] [red]x"}')
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        await pilot.press("f3")
        await until(pilot, lambda: screen.query("ModelStep"))
        line = screen.query_one("ModelStep PathInput", PathInput)
        line.value = str(odd)
        line.focus()
        await pilot.press("enter")
        await until(pilot, lambda: "[/b] [red]x" in _said(app, "#notes"))
        assert "[/b] [red]x" in screen.query_one("TitleBar", TitleBar).render().plain


async def test_a_store_that_does_not_answer_leaves_the_pages_of_jobs_of_use(
    make_app: Make, state: StateFolder
) -> None:
    state.database.write_bytes(b"no database" * 1000)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen._turn_to("generate", enter=True)
        await until(pilot, lambda: app._notifications)
        await until(pilot, lambda: "model_name" in screen.draft.found.get("generate", ""))
        assert isinstance(app.focused, SettingList)


async def test_a_long_check_of_the_data_holds_up_no_other_page(
    data: Path, model: Path, make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def validate(folders: list[Path], check: object) -> None:
        begun.set()
        go_on.wait(30)
        raise data_step._NotWantedAnyMore

    monkeypatch.setattr(data_step, "_validate", validate)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen.draft.of("train").update(
            data_paths=[str(data / "python")], pretrained_model_path=str(model)
        )
        screen.page.action_check()  # type: ignore[union-attr]
        await until(pilot, begun.is_set)
        await pilot.press("f3")
        await until(pilot, lambda: screen.draft.found.get("model") == "ok: model")
        assert not go_on.is_set()
        go_on.set()


def _hold(go_on: threading.Event) -> None:
    assert go_on.wait(60)


async def test_what_was_decided_last_is_kept_when_the_wizard_is_left_at_once(
    make_app: Make, state: StateFolder
) -> None:
    busy = threading.Event()
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        app.lanes["files"].post(_hold, busy)
        screen.draft.of("train")["seed"] = 7
        screen.page.post_message(screen.page.Changed())  # type: ignore[union-attr]
        await pilot.pause()
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is not screen)
        busy.set()
        kept = state.root / "drafts/draft/train.json"
        await until(pilot, lambda: kept.exists() and json.loads(kept.read_text()) == {"seed": 7})


async def test_every_page_is_shown_in_every_theme(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        for theme in THEMES[::-1]:
            app.theme = theme.name
            for step in STEPS:
                screen._turn_to(step, enter=True)
                await until(pilot, lambda step=step: screen.page and screen.page.step == step)
            assert app.is_running


async def test_a_record_as_the_model_sees_it_stands_beside_data_and_model_where_there_is_room(
    data: Path, model: Path, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=(160, 50)) as pilot:
        screen = await open_wizard(app, pilot)
        named = "data and a model named"
        await until(pilot, lambda: named in _said(app, "DataStep #about-record"))
        screen.draft.of("train").update(
            data_paths=[str(data / "python")], pretrained_model_path=str(model)
        )
        await pilot.press("f3", "f2")
        await until(pilot, lambda: "tokens trained" in _said(app, "DataStep #about-record"))
        preview = screen.query_one("DataStep InlinePreview")
        assert preview.display
        await pilot.press("f3")
        await until(pilot, lambda: "tokens trained" in _said(app, "ModelStep #about-record"))
        await pilot.resize_terminal(80, 24)
        await until(pilot, lambda: not screen.query_one("ModelStep InlinePreview").display)


def test_a_record_is_found_in_a_file_of_any_size_without_keeping_it(tmp_path: Path) -> None:
    file = tmp_path / "many.jsonl"
    with file.open("w") as out:
        out.writelines(f'{{"n": {n}, "text": "{"x" * 1000}"}}\n' for n in range(30_000))
    tracemalloc.start()
    assert record_at(str(file), 29_999).startswith('{\n "n": 29998,')
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 2 * 2**20
    assert record_at(str(file), 30_001) == ""
    assert record_at(str(tmp_path / "some.jsonl.gz"), 1) == ""


def test_words_for_one_are_not_words_for_many() -> None:
    assert [counted(n, "problem") for n in (0, 1, 2000)] == [
        "0 problems", "1 problem", "2,000 problems",
    ]  # fmt: skip
