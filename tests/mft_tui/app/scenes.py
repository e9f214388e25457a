"""Ways to every screen that has a picture, each to where nothing on it moves any more.

A scene takes the app from its start, in the state folder that ``showcase`` fills.
"""

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from textual.command import CommandPalette
from textual.pilot import Pilot
from textual.widgets import OptionList

from mft_tui.screens.ask import AskText, Confirm
from mft_tui.screens.choose import Choose
from mft_tui.screens.columns import ColumnsScreen
from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.failures import FailuresScreen
from mft_tui.screens.help import HelpScreen
from mft_tui.screens.launching import HashingScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.quit import QuitScreen
from mft_tui.screens.too_small import TooSmall
from mft_tui.screens.wizard import WizardScreen
from mft_tui.screens.wizard.draft import STEPS
from mft_tui.screens.wizard.preview import PreviewScreen
from mft_tui.screens.wizard.review import ReviewScreen
from mft_tui.widgets.gpu_table import GpuTable
from mft_tui.widgets.log_view import LogView
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.run_table import RunTable
from mft_tui.widgets.task_rows import TaskRows
from mft_tui.widgets.title_bar import TitleBar
from runners.lifecycle.detached import Hashing
from tests.mft_tui.app import showcase
from tests.mft_tui.app.conftest import NOW, run_id
from tests.mft_tui.app.waiting import until

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


async def _train(pilot: P, theme: str = "dark", number: int = showcase.RUNNING) -> None:
    pilot.app.theme = theme
    screen = await _monitor(pilot, number)
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


def _over_home(screen: type[object], *keys: str) -> Scene:
    """What keys of home lay over it."""

    async def scene(pilot: P) -> None:
        await _home(pilot)
        await pilot.press(*keys)
        await until(pilot, lambda: isinstance(pilot.app.screen, screen))

    return scene


async def _columns(pilot: P) -> None:
    await _over_home(ColumnsScreen, "C")(pilot)
    await pilot.press("down", "space", "down", "down")


async def _launching(pilot: P) -> None:
    await _home(pilot)
    unasked: Any = None  # the launcher is asked for when the launch is given up, and not before
    screen = HashingScreen("coder-14b lora", unasked)
    pilot.app.push_screen(screen)
    await until(pilot, lambda: screen.is_current and screen.query("#share"))
    screen.show(Hashing(pid=1, started=NOW, done=19 * 2**30, total=28 * 2**30))


async def _too_small(pilot: P) -> None:
    await until(pilot, lambda: isinstance(pilot.app.screen, TooSmall))


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


async def _choose(pilot: P) -> None:
    await _page(pilot, "settings")
    await pilot.press("ctrl+e")
    await until(pilot, lambda: isinstance(pilot.app.screen, Choose))


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
    "train-resumed": lambda pilot: _train(pilot, number=showcase.RESUMED),
    "train-light": lambda pilot: _train(pilot, "light"),
    "train-colour-blind": lambda pilot: _train(pilot, "colour-blind"),
    "train-ansi": lambda pilot: _train(pilot, "ansi"),
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
    "confirm": _over_home(Confirm, "down", "down", "d"),
    "ask": _over_home(AskText, "down", "down", "down", "e"),
    "columns": _columns,
    "choose": _choose,
    "launching": _launching,
    "too-small": _too_small,
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
