"""Every screen as it looks, at both sizes: the clock stands still, the cursor does not blink.

The pictures in ``docs/pictures`` are what the README shows and what a screen is held against.
``MFT_PICTURES=renew pytest tests/mft_tui/app/test_pictures.py`` takes them anew; then look at them.
"""

import json
import os
import time
from collections.abc import Awaitable, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.widgets import Input, OptionList

from mft_tui.app import MftApp
from mft_tui.screens import monitor
from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.failures import FailuresScreen
from mft_tui.screens.help import HelpScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.quit import QuitScreen
from mft_tui.screens.wizard import WizardScreen, hardware_step
from mft_tui.screens.wizard.draft import STEPS
from mft_tui.screens.wizard.preview import PreviewScreen
from mft_tui.screens.wizard.review import ReviewScreen
from mft_tui.widgets.gpu_table import GpuTable
from mft_tui.widgets.log_view import LogView
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.run_table import RunTable
from mft_tui.widgets.task_rows import TaskRows
from mft_tui.widgets.title_bar import TitleBar
from runners.config import launch_line
from runners.hardware import probe
from runners.hardware.host import Cpus, HostMemory
from runners.hardware.sampler import GpuSampler
from runners.lifecycle.folders import StateFolder
from tests.conftest import PROJECT
from tests.mft_tui.app import showcase
from tests.mft_tui.app.conftest import NOW, run_id
from tests.mft_tui.app.waiting import until
from tests.runners.hardware.fake_nvml import FakeNvml, h100

PICTURES = PROJECT / "docs" / "pictures"
SIZES = {"80x24": (80, 24), "160x50": (160, 50)}
P = Pilot[int]
Scene = Callable[[P], Awaitable[None]]


async def _home(pilot: P) -> None:
    app: Any = pilot.app
    table = app.screen_stack[0].query_one(RunTable)
    await until(pilot, lambda: table.current is not None and app.live)
    await until(pilot, lambda: "running" in app.screen.query_one("TitleBar").status)


async def _empty(pilot: P) -> None:
    await until(pilot, lambda: pilot.app.screen.has_class("-empty"))


async def _monitor(pilot: P, number: int) -> MonitorScreen:
    await _home(pilot)
    screen = MonitorScreen([run_id(number)])
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen._version is not None and screen.query(LogView))
    log = screen.query_one(LogView)
    await until(pilot, lambda: log.row_count and log.extent.complete)
    await until(pilot, lambda: not screen._looking)
    if screen.query_one(GpuTable).is_on_screen:
        live = screen.run is not None and screen.run.status == "running"
        table = screen.query_one(GpuTable)
        await until(pilot, lambda: table._samples if live else table._empty == "not recorded")
    return screen


async def _train(pilot: P) -> None:
    screen = await _monitor(pilot, showcase.RUNNING)
    charts = list(screen.query(MetricChart))
    await until(pilot, lambda: charts and all(map(_drawn, charts)))


def _drawn(chart: MetricChart) -> bool:
    """Whether the chart has drawn what it was last given."""
    dots = any("\u2800" < character < "\u2900" for character in chart._drawn.plain)
    return bool(chart.curves) and dots and not chart._due


async def _log(pilot: P) -> None:
    await _monitor(pilot, showcase.RUNNING)
    await pilot.press("2")
    await until(pilot, lambda: isinstance(pilot.app.focused, LogView))


async def _machine(pilot: P) -> None:
    screen = await _monitor(pilot, showcase.RUNNING)
    await pilot.press("3")
    await until(pilot, lambda: screen.query_one(GpuTable)._samples)


async def _generate(pilot: P) -> None:
    screen = await _monitor(pilot, showcase.GENERATING)
    await until(pilot, lambda: screen.query(TaskRows) and screen.query_one(TaskRows)._rows)


async def _evaluate(pilot: P) -> None:
    screen = await _monitor(pilot, showcase.EVALUATED_COBA)
    await until(pilot, lambda: screen.query(TaskRows) and screen.query_one(TaskRows)._rows)


async def _failures(pilot: P, part: str = "1") -> None:
    await _home(pilot)
    app: Any = pilot.app
    wanted = run_id(showcase.SMALL_EVALUATION)
    run = await app.tracker.ask(lambda store: store.get_run(wanted))
    screen = FailuresScreen(run, "humanevalsynthesize-python")
    app.push_screen(screen)
    await until(pilot, lambda: screen.query(OptionList) and screen._case is not None)
    await pilot.press(part)


async def _compare(pilot: P, view: str, *numbers: int) -> None:
    await _home(pilot)
    screen = CompareScreen([run_id(number) for number in numbers])
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.found)
    await pilot.press(view)
    if view == "2":
        await until(pilot, lambda: _drawn(screen.query_one(MetricChart)))


async def _help(pilot: P) -> None:
    await _home(pilot)
    await pilot.press("question_mark")
    await until(pilot, lambda: isinstance(pilot.app.screen, HelpScreen))


async def _palette(pilot: P) -> None:
    await _home(pilot)
    await pilot.press("ctrl+p")
    await until(pilot, lambda: isinstance(pilot.app.screen, CommandPalette))
    await pilot.press(*"the")
    await until(pilot, lambda: pilot.app.screen.query_one(OptionList).option_count >= 1)


async def _quit(pilot: P) -> None:
    await _home(pilot)
    await pilot.press("q")
    await until(pilot, lambda: isinstance(pilot.app.screen, QuitScreen))


# The wizard


async def _page(pilot: P, step: str) -> WizardScreen:
    await _home(pilot)
    screen = WizardScreen()
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.page is not None)
    screen.draft.of("train").update(
        data_paths=["data/python", "data/java"], pretrained_model_path="model", seq_length=4096
    )
    screen.draft.runs["generate"] = run_id(7)
    for one in STEPS[: STEPS.index(step) + 1]:
        screen._turn_to(one, enter=True)
        await until(pilot, lambda one=one: screen.page is not None and screen.page.step == one)
        if one == "data":
            screen.page.on_mount()  # type: ignore[union-attr]
        if one in _TOLD:
            await until(pilot, lambda one=one: _TOLD[one] in screen.draft.found.get(one, ""))
    return screen


_TOLD = {
    "data": "1 problem", "model": "ok: model", "hardware": "ok: fits", "settings": "ok:",
    "train": "todo: ready", "generate": "ok: finished", "evaluate": "todo", "export": "todo",
}  # fmt: skip


def _wizard(step: str, *keys: str) -> Scene:
    async def scene(pilot: P) -> None:
        await _page(pilot, step)
        await pilot.press(*keys)

    return scene


async def _data(pilot: P) -> None:
    screen = await _page(pilot, "data")
    problems = screen.query_one("#problems", OptionList)
    problems.focus()
    problems.highlighted = 0
    await until(pilot, lambda: "a.jsonl:2" in str(screen.query_one("#record").render()))


async def _hardware(pilot: P) -> None:
    screen = await _page(pilot, "hardware")
    await until(pilot, lambda: "fits" in str(screen.query_one("#estimate").render()))


async def _no_fit(pilot: P) -> None:
    screen = await _page(pilot, "hardware")
    large = Path("Qwen2.5-Coder-72B")
    large.mkdir()
    (large / "config.json").write_text(json.dumps({
        "model_type": "qwen2", "hidden_size": 8192, "num_hidden_layers": 80, "vocab_size": 152064,
        "num_attention_heads": 64, "num_key_value_heads": 8, "intermediate_size": 29568,
        "max_position_embeddings": 32768, "tie_word_embeddings": False,
    }))  # fmt: skip
    screen.draft.of("train").update(
        pretrained_model_path=str(large), peft_type="lora", zero_stage=2
    )
    assert screen.page is not None
    screen.page.enter()
    await until(pilot, lambda: "not fit" in screen.draft.found.get("hardware", ""))


async def _review(pilot: P) -> None:
    await _page(pilot, "train")
    await pilot.press("f5")
    app: Any = pilot.app
    await until(pilot, lambda: isinstance(app.screen, ReviewScreen) and app.screen.review)


async def _preview(pilot: P) -> None:
    await _home(pilot)
    screen = PreviewScreen([Path("data/python")], Path("model"))
    pilot.app.push_screen(screen)
    await until(
        pilot,
        lambda: any("tokens trained" in bar.status for bar in screen.query(TitleBar)),
    )


SCENES: dict[str, Scene] = {
    "home": _home,
    "empty": _empty,
    "train": _train,
    "log": _log,
    "machine": _machine,
    "generate": _generate,
    "evaluate": _evaluate,
    "failures": _failures,
    "failures-diff": lambda pilot: _failures(pilot, "3"),
    "compare-settings": lambda pilot: _compare(pilot, "1", showcase.LORA, showcase.COBA),
    "compare-curves": lambda pilot: _compare(pilot, "2", showcase.LORA, showcase.COBA),
    "compare-scores": lambda pilot: _compare(
        pilot, "3", showcase.EVALUATED, showcase.EVALUATED_COBA
    ),
    "compare-flips": lambda pilot: _compare(
        pilot, "4", showcase.EVALUATED, showcase.EVALUATED_COBA
    ),
    "help": _help,
    "palette": _palette,
    "quit": _quit,
    "wizard-data": _data,
    "wizard-model": _wizard("model"),
    "wizard-hardware": _hardware,
    "wizard-no-fit": _no_fit,
    "wizard-settings": _wizard("settings", "down", "down"),
    "wizard-train": _wizard("train"),
    "wizard-generate": _wizard("generate"),
    "wizard-evaluate": _wizard("evaluate"),
    "wizard-export": _wizard("export"),
    "review": _review,
    "mask-preview": _preview,
}


@pytest.fixture
def app(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> MftApp:
    """The app in a state folder that has the same name everywhere, on a machine of two H100s."""
    home = tmp_path / "home"
    if request.getfixturevalue("scene") == "empty":
        home.mkdir()
    else:
        showcase.fill(home)
    monkeypatch.chdir(home)
    monkeypatch.setenv("MFT_HOME", ".")
    monkeypatch.setenv("TZ", "UTC")
    time.tzset()
    nvml = FakeNvml([h100(n, used=61 * 2**30, utilisation=97 - n) for n in range(2)])
    seen = probe.detect(nvml, {})
    seen = replace(
        seen,
        cpus=Cpus("Some CPU", 32, 32, 32, None),
        memory=HostMemory(512 * 2**30, 480 * 2**30, None),
    )
    for module, name in ((hardware_step, "_detect"), (probe, "detect")):
        monkeypatch.setattr(module, name, lambda *_: seen)
    monkeypatch.setattr(monitor, "_detect_gpus", lambda: seen.gpus)
    monkeypatch.setattr(monitor, "goes_on_here", lambda run: run.status == "running")
    for module in (monitor, hardware_step):
        monkeypatch.setattr(module, "_open_sampler", lambda: GpuSampler(nvml).__enter__())
    # The review shows the interpreter and our files, which lie elsewhere on each machine.
    argv_defaults = launch_line.accelerate_argv.__kwdefaults__
    monkeypatch.setitem(argv_defaults, "python", "python")
    monkeypatch.setitem(argv_defaults, "defaults", Path("accelerate.json"))
    made = MftApp(StateFolder(Path()), clock=lambda: NOW, pulse=3600)
    made.animation_level = "none"
    return made


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("scene", SCENES)
async def test_a_screen_looks_as_in_its_picture(
    scene: str, size: str, app: MftApp, tmp_path: Path
) -> None:
    picture = PICTURES / f"{scene}-{size}.svg"
    async with app.run_test(size=SIZES[size]) as pilot:
        await SCENES[scene](pilot)
        for line in app.screen.query(Input):
            line.cursor_blink = False
        await pilot.pause()
        seen = app.export_screenshot(title="mft-tui")
        # What is read in the background may come later on a busy machine.
        for _ in range(50):
            if not picture.is_file() or picture.read_text(encoding="utf-8") == seen:
                break
            await pilot.pause(0.1)
            seen = app.export_screenshot(title="mft-tui")
    if os.environ.get("MFT_PICTURES"):
        picture.write_text(seen, encoding="utf-8")
    fresh = tmp_path / picture.name
    fresh.write_text(seen, encoding="utf-8")
    assert picture.is_file(), f"no picture yet: see {fresh}, renew with MFT_PICTURES=renew"
    same = picture.read_text(encoding="utf-8") == seen
    assert same, f"{picture} looks otherwise now: see {fresh}, renew with MFT_PICTURES=renew"
