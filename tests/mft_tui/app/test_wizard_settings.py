"""The wizard's settings: searched, checked, inherited, and taken from presets and files."""

import json
from pathlib import Path

import pytest
from textual.pilot import Pilot
from textual.widgets import Input

from mft_tui.screens.ask import AskText, Confirm
from mft_tui.screens.choose import Choose
from mft_tui.screens.wizard import WizardScreen
from mft_tui.screens.wizard.draft import STEPS
from mft_tui.widgets.config_form import ConfigForm
from mft_tui.widgets.path_input import PathInput
from mft_tui.widgets.setting_list import SettingList
from tests.mft_tui.app.driving import ROOMY, Make, open_wizard
from tests.mft_tui.app.waiting import until


async def _settings(pilot: Pilot[int], screen: WizardScreen) -> ConfigForm:
    screen._turn_to("settings", enter=True)
    await until(pilot, lambda: isinstance(pilot.app.focused, SettingList))
    return screen.query_one("SettingsStep ConfigForm", ConfigForm)


def _line(form: ConfigForm, key: str) -> str:
    lines = form.lines
    place = next(n for n, s in enumerate(lines._lines) if getattr(s, "key", "") == key)
    lines.scroll_to(y=0, animate=False)
    return lines.render_line(place - int(lines.scroll_y)).text


async def test_settings_are_searched_changed_checked_and_reset(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        await pilot.press("f3", "f3", "f3")
        await until(pilot, lambda: screen.query("SettingsStep"))
        await until(pilot, lambda: isinstance(app.focused, SettingList))
        form = screen.query_one("SettingsStep ConfigForm", ConfigForm)
        await pilot.press("slash", *"packed", "backspace", "backspace", "enter")
        await until(pilot, lambda: form.lines.setting is not None)
        await pilot.press("slash")
        form.query_one("#search", Input).value = "seq_length longest"
        await pilot.press("enter")
        assert form.lines.setting is not None
        assert form.lines.setting.key == "seq_length"
        await pilot.press("enter")
        form.query_one("#edit", Input).value = "3"
        await pilot.press("enter")
        assert "seq_length" not in form.values
        form.query_one("#edit", Input).value = "512"
        await pilot.press("enter")
        await until(pilot, lambda: screen.draft.of("train").get("seq_length") == 512)
        await pilot.press("d", "delete")
        await until(pilot, lambda: "seq_length" not in screen.draft.of("train"))


async def test_settings_are_not_done_while_something_must_still_be_given(
    data: Path, model: Path, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        await pilot.press("f3", "f3", "f3")
        await until(pilot, lambda: screen.draft.found.get("settings"))
        missing = "todo: still to give: data_paths, pretrained_model_path"
        assert screen.draft.found["settings"] == missing
        screen.draft.of("train").update(
            data_paths=[str(data / "python")], pretrained_model_path=str(model)
        )
        screen.page.post_message(screen.page.Changed())  # type: ignore[union-attr]
        await until(pilot, lambda: screen.draft.found["settings"].startswith("ok"))


async def test_presets_and_files_are_taken(make_app: Make, tmp_path: Path) -> None:
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps({"evalation_steps": 77, "tokenize_mode": "sft", "seed": 5}))
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        await pilot.press("f3", "f3", "f3")
        await until(pilot, lambda: isinstance(app.focused, SettingList))
        await pilot.press("ctrl+e")
        await until(pilot, lambda: isinstance(app.screen, Choose))
        await pilot.press("down", "enter")
        await until(pilot, lambda: len(screen.draft.of("train")) >= 4)
        await pilot.press("ctrl+o")
        await until(pilot, lambda: isinstance(app.screen, AskText))
        app.screen.query_one(Input).value = str(reference)
        await pilot.press("enter")
        await until(pilot, lambda: screen.draft.of("train").get("evaluation_steps") == 77)
        await pilot.press("ctrl+s")
        await until(pilot, lambda: isinstance(app.screen, AskText))
        app.screen.query_one(Input).value = str(tmp_path / "saved.json")
        await pilot.press("enter")
        await until(pilot, (tmp_path / "saved.json").exists)
        assert json.loads((tmp_path / "saved.json").read_text())["evaluation_steps"] == 77


async def test_a_value_of_the_environment_is_shown_with_its_origin(
    make_app: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MFT_LEARNING_RATE", "0.01")
    monkeypatch.setenv("MFT_PRETRAINED_MODEL_PATH", "some/model")
    monkeypatch.setenv("MFT_MODEL_NAME", "from-outside")
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        form = await _settings(pilot, screen)
        assert _line(form, "learning_rate").split()[1:3] == ["0.01", "environment"]
        assert screen.draft.found["settings"] == "todo: still to give: data_paths"
        screen._turn_to("generate", enter=True)
        await until(pilot, lambda: screen.page and screen.page.step == "generate")
        form = screen.query_one("GenerateStep ConfigForm", ConfigForm)
        assert _line(form, "model_name").split()[1:3] == ["from-outside", "environment"]


async def test_what_is_missing_is_to_be_given_and_no_error(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        form = await _settings(pilot, screen)
        assert _line(form, "data_paths").split()[:2] == ["○", "data_paths"]
        form.values["seq_length"] = -5
        form._check()
        assert _line(form, "seq_length").split()[0] == "!"


async def test_every_group_has_one_heading(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        for step in STEPS[3:]:
            screen._turn_to(step, enter=True)
            await until(pilot, lambda step=step: screen.page and screen.page.step == step)
            assert screen.page is not None
            lines = screen.page.query_one(SettingList)._lines
            headings = [line for line in lines if isinstance(line, str)]
            assert len(headings) == len(set(headings)), step


async def test_what_was_typed_and_not_entered_is_taken_when_the_page_is_left(
    data: Path, model: Path, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen.query_one("DataStep PathInput", PathInput).value = str(data / "python")
        await pilot.press("f3")
        await until(pilot, lambda: screen.query("ModelStep PathInput"))
        assert screen.draft.of("train")["data_paths"] == [str(data / "python")]
        screen.query_one("ModelStep PathInput", PathInput).value = str(model)
        await pilot.press("f3", "f3")
        await until(pilot, lambda: isinstance(app.focused, SettingList))
        assert screen.draft.of("train")["pretrained_model_path"] == str(model)
        form = screen.query_one("SettingsStep ConfigForm", ConfigForm)
        await pilot.press("slash", *"seq_length", "enter", "enter")
        form.query_one("#edit", Input).value = "512"
        await pilot.press("f3")
        await until(pilot, lambda: screen.draft.of("train").get("seq_length") == 512)


async def test_a_file_with_a_wrong_key_is_refused_and_old_keys_are_named(
    make_app: Make, tmp_path: Path
) -> None:
    wrong, old = tmp_path / "wrong.json", tmp_path / "old.json"
    wrong.write_text('{"learning_rat": 1}')
    old.write_text('{"tokenize_mode": "sft", "seed": 5}')
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        await _settings(pilot, screen)
        for path, said in ((wrong, "Did you mean learning_rate"), (old, "tokenize_mode has no")):
            await pilot.press("ctrl+o")
            await until(pilot, lambda: isinstance(app.screen, AskText))
            app.screen.query_one(Input).value = str(path)
            await pilot.press("enter")
            await until(pilot, lambda said=said: any(said in n.message for n in app._notifications))
        assert screen.draft.of("train") == {"seed": 5}


async def test_a_file_is_written_over_only_when_that_is_wanted(
    make_app: Make, tmp_path: Path
) -> None:
    path = tmp_path / "mine.json"
    path.write_text("precious")
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        await _settings(pilot, screen)
        for answer in ("n", "y"):
            await pilot.press("ctrl+s")
            await until(pilot, lambda: isinstance(app.screen, AskText))
            app.screen.query_one(Input).value = str(path)
            await pilot.press("enter")
            await until(pilot, lambda: isinstance(app.screen, Confirm))
            assert path.read_text() == "precious"
            await pilot.press(answer)
            await until(pilot, lambda: app.screen is screen)
        await until(pilot, lambda: path.read_text() == "{}\n")
