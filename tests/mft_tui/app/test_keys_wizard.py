"""Every key of the wizard, pressed, and its effect seen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from textual.widgets import Input, OptionList

from mft_tui.app import MftApp
from mft_tui.screens.ask import AskText
from mft_tui.screens.choose import Choose
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.wizard import WizardScreen, hardware_step
from mft_tui.screens.wizard.preview import PreviewScreen
from mft_tui.screens.wizard.rail import Rail
from mft_tui.screens.wizard.review import ReviewScreen
from mft_tui.widgets.config_form import ConfigForm
from mft_tui.widgets.path_input import PathInput
from mft_tui.widgets.setting_list import SettingList
from runners.hardware.probe import detect
from runners.hardware.sampler import GpuSampler
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import run_id
from tests.mft_tui.app.driving import ROOMY, Make, open_wizard
from tests.mft_tui.app.waiting import until
from tests.mft_tui.app.walking import Press, on, walk
from tests.runners.hardware.fake_nvml import FakeNvml, eight_h100s


def _step(name: str) -> Callable[[Any], bool]:
    return lambda app: app.screen.draft.step == name and app.screen.page is not None


def _train(app: Any) -> dict[str, Any]:
    values: dict[str, Any] = app.screen.draft.of("train")
    return values


wizard = on(WizardScreen)

STEPS = [
    Press("wizard.next", "f3", _step("model")),
    Press("wizard.next", "f3", _step("hardware")),
    Press("wizard.previous", "f2", _step("model")),
    Press("wizard.copy", "f8", lambda app: app.clipboard.startswith("mft-tui estimate")),
    Press("wizard.drafts", "f7", on(Choose)),
    Press("choose.cancel", "escape", wizard),
    Press("", "shift+tab", lambda app: isinstance(app.focused, Rail)),
    Press("rail.down", "down", _step("hardware")),
    Press("rail.down", "j", _step("settings")),
    Press("rail.up", "up", _step("hardware")),
    Press("rail.up", "k", _step("model")),
    Press("rail.enter", "enter", lambda app: isinstance(app.focused, PathInput)),
    Press("", "shift+tab", lambda app: isinstance(app.focused, Rail)),
    Press("rail.enter", "right", lambda app: isinstance(app.focused, PathInput)),
    Press("wizard.watch", "f4", on(MonitorScreen)),
    Press("", "escape", wizard),
    Press("wizard.back", "escape", on(HomeScreen)),
]


async def test_the_keys_that_go_from_step_to_step(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen.draft.runs["train"] = run_id(1)
        await walk(app, pilot, STEPS)


def _folders(app: Any) -> int:
    return len(_train(app).get("data_paths", []))


def _checked(app: Any) -> bool:
    return bool(app.screen.query_one("DataStep #problems", OptionList).option_count)


def _index(number: int) -> Callable[[Any], bool]:
    return lambda app: (
        app.screen._index == number and "trained" in app.screen.query_one("TitleBar").status
    )


DATA = [
    Press("data.check", "f9", _checked),
    Press("data.preview", "f6", on(PreviewScreen)),
    Press("preview.next", "right", _index(1)),
    Press("preview.next", "n", _index(2)),
    Press("preview.previous", "left", _index(1)),
    Press("preview.previous", "p", _index(0)),
    Press("preview.folder", "f", lambda app: app.screen._folders[0].name == "java"),
    Press("preview.back", "escape", wizard),
    Press("", "f3", _step("model")),
    Press("model.preview", "f6", on(PreviewScreen)),
    Press("preview.back", "q", wizard),
    Press("", "f2", lambda app: isinstance(app.focused, PathInput)),
    Press("", "tab", lambda app: isinstance(app.focused, OptionList)),
    Press("", "down", lambda app: app.focused.highlighted is not None),
    Press("data.remove", "delete", lambda app: _folders(app) == 1),
    Press("", "down", lambda app: app.focused.highlighted is not None),
    Press("data.remove", "backspace", lambda app: _folders(app) == 0),
]


async def test_the_keys_of_data_and_model(data: Path, model: Path, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen.draft.of("train").update(
            data_paths=[str(data / "python"), str(data / "java")], pretrained_model_path=str(model)
        )
        screen.page._show_folders()  # type: ignore[union-attr]
        await walk(app, pilot, DATA)


COMPLETING = [Press("path.complete", "tab", lambda app: app.focused.value.endswith("python/"))]


async def test_tab_completes_a_folder(data: Path, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        line = screen.query_one(PathInput)
        line.focus()
        line.value = str(data / "py")
        await until(pilot, lambda: line._suggestion)
        await walk(app, pilot, COMPLETING)


def _gpu(index: int) -> Callable[[Any], bool]:
    return lambda app: app.screen.page._cursor == index


HARDWARE = [
    Press("hardware.down", "down", _gpu(1)),
    Press("hardware.down", "j", _gpu(2)),
    Press("hardware.up", "up", _gpu(1)),
    Press("hardware.up", "k", _gpu(0)),
    Press("hardware.choose", "space", lambda app: "0" not in _train(app)["gpu_ids"]),
    Press("hardware.cpu", "c", lambda app: _train(app).get("use_cpu") is True),
    Press("hardware.apply", "a", lambda app: len(app._notifications) == 1),
]


async def test_the_keys_of_hardware(make_app: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    nvml = FakeNvml(eight_h100s())
    monkeypatch.setattr(hardware_step, "_detect", lambda: detect(nvml, {}))
    monkeypatch.setattr(hardware_step, "_open_sampler", lambda: GpuSampler(nvml).__enter__())
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen._turn_to("hardware", enter=True)
        await until(pilot, lambda: _step("hardware")(app) and screen.page._hardware)  # type: ignore[union-attr]
        screen.page.focus()  # type: ignore[union-attr]
        await walk(app, pilot, HARDWARE)


def _form(app: Any) -> ConfigForm:
    return app.screen.page.query_one(ConfigForm)


def _setting(key: str) -> Callable[[Any], bool]:
    return lambda app: _form(app).lines.setting.key == key


def _value(key: str, value: object) -> Callable[[Any], bool]:
    return lambda app: _form(app).values.get(key) == value


def _typing(line: str) -> Callable[[Any], bool]:
    return lambda app: isinstance(app.focused, Input) and app.focused.id == line


SETTINGS = [
    Press("form.down", "down", _setting("data_split")),
    Press("form.down", "j", _setting("padding_mode")),
    Press("form.next_choice", "right", _value("padding_mode", "pack")),
    Press("form.previous_choice", "left", _value("padding_mode", "padding")),
    Press("form.next_choice", "space", _value("padding_mode", "pack")),
    Press("form.reset", "delete", _value("padding_mode", None)),
    Press("", "space", _value("padding_mode", "pack")),
    Press("form.reset", "backspace", _value("padding_mode", None)),
    Press("form.up", "up", _setting("data_split")),
    Press("form.up", "k", _setting("data_paths")),
    Press("form.page_down", "pagedown", lambda app: _form(app).lines.cursor >= 10),
    Press("form.page_up", "pageup", _setting("data_paths")),
    Press("form.last", "end", lambda app: _form(app).lines.cursor > 40),
    Press("form.first", "home", _setting("data_paths")),
    Press("form.last", "G", lambda app: _form(app).lines.cursor > 40),
    Press("form.first", "g", _setting("data_paths")),
    Press("form.differences", "d", lambda app: len(_form(app).lines._lines) < 6),
    Press("", "d", lambda app: len(_form(app).lines._lines) > 40),
    Press("form.search", "slash", _typing("search")),
    Press("", "escape", lambda app: isinstance(app.focused, SettingList)),
    Press("", "down", _setting("data_split")),
    Press("form.edit", "enter", _typing("edit")),
    Press("", "escape", lambda app: isinstance(app.focused, SettingList)),
    Press("settings.load", "ctrl+o", on(AskText)),
    Press("", "escape", wizard),
    Press("settings.save", "ctrl+s", on(AskText)),
    Press("", "escape", wizard),
    Press("settings.preset", "ctrl+e", on(Choose)),
    Press("", "escape", wizard),
    Press("wizard.review", "f5", on(ReviewScreen)),
    Press("review.copy", "y", lambda app: app.clipboard.startswith("mft-tui train")),
    Press("review.back", "escape", wizard),
    Press("wizard.review", "f5", on(ReviewScreen)),
    Press("review.back", "q", wizard),
]


async def test_the_keys_of_settings_and_review(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen._turn_to("settings", enter=True)
        await until(pilot, lambda: isinstance(app.focused, SettingList))
        await walk(app, pilot, SETTINGS)


LAUNCHING = [
    Press("", "f5", lambda app: getattr(app.screen, "review", None)),
    Press("review.launch", "enter", on(MonitorScreen)),
]


async def test_enter_launches_what_was_reviewed(
    filled: StateFolder,
    data: Path,
    model: Path,
    make_app: Make,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from mft_tui.screens import actions

    launched = []

    async def launch(app: MftApp, config: Any, **_: object) -> str:
        launched.append(config)
        return run_id(1)

    monkeypatch.setattr(actions, "launch_config", launch)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_wizard(app, pilot)
        screen.draft.of("train").update(
            data_paths=[str(data / "python")], pretrained_model_path=str(model), use_cpu=True
        )
        await walk(app, pilot, LAUNCHING)
    assert [str(path) for path in launched[0].data_paths] == [str(data / "python")]


WALKS = [STEPS, DATA, COMPLETING, HARDWARE, SETTINGS, LAUNCHING]
