"""Monitor, compare, failures and the wizard, driven by their keys, on real stores and files."""

import io
import json
from collections.abc import Callable
from pathlib import Path

import pytest
from rich.console import Console
from textual.widgets import Input, OptionList, Static

from mft_tui.app import MftApp
from mft_tui.screens.ask import AskText
from mft_tui.screens.choose import Choose
from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.failures import FailuresScreen
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.monitor import MonitorScreen
from mft_tui.screens.wizard import WizardScreen
from mft_tui.screens.wizard.preview import PreviewScreen
from mft_tui.screens.wizard.review import ReviewScreen
from mft_tui.widgets.command_line import CommandLine
from mft_tui.widgets.config_form import ConfigForm, SettingList
from mft_tui.widgets.log_pane import LogPane
from mft_tui.widgets.log_view import LogView
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.path_input import PathInput
from mft_tui.widgets.task_rows import TaskRows
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import run_id
from tests.mft_tui.app.waiting import until

Make = Callable[[], MftApp]
ROOMY = (140, 45)


def _loss(app: MftApp) -> MetricChart:
    return app.screen.query_one("#loss", MetricChart)


async def _monitor(app: MftApp, pilot: object, *numbers: int) -> MonitorScreen:
    screen = MonitorScreen([run_id(n) for n in numbers])
    app.push_screen(screen)
    await until(pilot, lambda: bool(screen.query(LogPane)) and screen._version is not None)  # type: ignore[arg-type]
    return screen


# The monitor


async def test_the_monitor_draws_the_loss_of_each_task(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await _monitor(app, pilot, 1)
        await until(pilot, lambda: len(_loss(app).curves) == 3)
        assert [curve.name for curve in _loss(app).curves] == ["loss", "java", "python"]
        await until(
            pilot,
            lambda: (
                "⠉" in str(_loss(app).render())
                or "⣀" in str(_loss(app).render())
                or any(0x2800 < ord(c) < 0x2900 for c in str(_loss(app).render()))
            ),
        )


async def test_chart_keys_change_axis_smoothing_window_and_cursor(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await _monitor(app, pilot, 1)
        await until(pilot, lambda: len(_loss(app).curves) == 3)
        chart = _loss(app)
        chart.focus()
        await pilot.press("l", "m")
        assert chart.log_axis
        assert chart.weight == 0.6
        await pilot.press("left", "left")
        assert chart.cursor is not None
        assert chart.cursor < chart.whole.high
        await until(pilot, lambda: "step" in str(chart.border_subtitle))
        await pilot.press("plus")
        assert chart.window is not None
        width = chart.window.high - chart.window.low
        await pilot.press("shift+left")
        assert chart.window.high - chart.window.low == pytest.approx(width)
        await pilot.press("minus", "0")
        assert chart.window is None
        assert chart.cursor is None


async def test_the_second_chart_goes_through_the_other_metrics(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        await _monitor(app, pilot, 1)
        second = app.screen.query_one("#second", MetricChart)
        await until(pilot, lambda: [c.name for c in second.curves] == ["lr"])
        _loss(app).focus()
        await pilot.press("full_stop")
        await until(pilot, lambda: [c.name for c in second.curves] == ["tokens_per_second"])
        await pilot.press("comma")
        await until(pilot, lambda: [c.name for c in second.curves] == ["lr"])


async def test_views_show_one_part_alone_and_escape_goes_back_in_steps(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        screen = await _monitor(app, pilot, 1)
        assert not screen.query_one(LogPane).display
        await pilot.press("2")
        assert screen.query_one(LogPane).display
        await until(pilot, lambda: isinstance(app.focused, LogView))
        await pilot.press("3")
        assert screen.query_one("#side").display
        await pilot.press("escape")
        assert app.screen is screen
        assert not screen.query_one("#side").display
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))


async def test_several_runs_stand_behind_tabs(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _monitor(app, pilot, 1, 4)
        assert screen.has_class("-several")
        await pilot.press("right_square_bracket")
        await until(pilot, lambda: screen.run is not None and screen.run.id == run_id(4))
        await until(pilot, lambda: bool(screen.query(TaskRows)))
        await pilot.press("left_square_bracket")
        await until(pilot, lambda: screen.run is not None and screen.run.id == run_id(1))


# The log pane


async def _log(app: MftApp, pilot: object) -> LogView:
    screen = await _monitor(app, pilot, 1)
    screen.action_view("log")
    view = screen.query_one(LogView)
    await until(pilot, lambda: view.row_count == 200 and app.focused is view)  # type: ignore[arg-type]
    return view


def _shown(view: LogView) -> str:
    return "\n".join(view.render_line(y).text.rstrip() for y in range(view.size.height))


async def test_the_log_follows_its_file(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await _log(app, pilot)
        await until(pilot, lambda: "line 199" in _shown(view))
        with filled.run(run_id(1)).console.open("a") as file:
            file.write("new\r" * 5 + "\x1b[31mnewest\x1b[0m\n")
        await until(pilot, lambda: "newest" in _shown(view))


async def test_scrolling_lets_go_and_end_comes_back_with_the_lines_counted(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await _log(app, pilot)
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


async def test_the_log_is_searched_and_filtered(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await _log(app, pilot)
        await pilot.press("slash", *"line 42", "enter")
        await until(pilot, lambda: view.cursor == 42)
        await pilot.press("slash", *"line 1", "enter")
        await until(pilot, lambda: view.cursor == 19)
        await pilot.press("n")
        await until(pilot, lambda: view.cursor == 100)
        await pilot.press("N")
        await until(pilot, lambda: view.cursor == 19)
        await pilot.press("ampersand", *"/7$/", "enter")
        await until(pilot, lambda: view.row_count == 20)
        assert "line 187" in _shown(view)
        await pilot.press("ampersand", "enter")
        await until(pilot, lambda: view.row_count in (20, 200))


async def test_marked_lines_are_copied_without_their_colours(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await _log(app, pilot)
        await pilot.press("up", "v", "up", "y")
        await until(pilot, lambda: app.clipboard == "line 197\nline 198")
        assert not view.following


async def test_long_lines_are_wrapped_on_demand(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=(80, 24)) as pilot:
        view = await _log(app, pilot)
        with filled.run(run_id(1)).console.open("a") as file:
            file.write("start " + "x" * 200 + " finish\n")
        await until(pilot, lambda: "start" in _shown(view))
        assert "finish" not in _shown(view)
        await pilot.press("w")
        await until(pilot, lambda: "finish" in _shown(view))


# Evaluation, failures, compare


async def test_an_evaluation_shows_its_tasks_and_their_failures(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _monitor(app, pilot, 4)
        rows = screen.query_one(TaskRows)
        await until(pilot, lambda: "2/8" not in str(rows.border_subtitle) and rows._rows)
        rows.focus()
        await pilot.press("down", "up", "enter")
        await until(pilot, lambda: isinstance(app.screen, FailuresScreen))
        failures = app.screen
        await until(pilot, lambda: failures.query_one(OptionList).option_count == 1)
        await until(pilot, lambda: "AssertionError" in str(failures.query_one("#text").render()))
        await pilot.press("right")
        await pilot.press("1")
        await until(pilot, lambda: "AssertionError" in str(failures.query_one("#text").render()))
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)


async def test_compare_tells_what_differs_and_what_flipped(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = CompareScreen([run_id(4), run_id(5)])
        app.push_screen(screen)
        await until(pilot, lambda: screen.found)
        await until(pilot, lambda: "mean" in _table_words(screen))
        await pilot.press("4")
        await until(pilot, lambda: "chance alone could do this" in _table_words(screen))
        assert "of 8 questions 0 won, 2 lost" in _table_words(screen)
        assert "− mbpp   2  passed → wrong" in _table_words(screen)
        await pilot.press("1")
        await until(pilot, lambda: "seed" in _table_words(screen))
        assert "learning_rate" not in _table_words(screen)


def _table_words(screen: CompareScreen) -> str:
    console = Console(width=120, file=io.StringIO())
    console.print(screen.query_one("#table", Static).content)
    return console.file.getvalue()  # type: ignore[attr-defined]


async def test_compared_curves_lie_over_one_another(filled: StateFolder, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = CompareScreen([run_id(1), run_id(2)])
        app.push_screen(screen)
        await until(pilot, lambda: screen.found)
        await pilot.press("2")
        chart = screen.query_one(MetricChart)
        await until(
            pilot, lambda: [c.name for c in chart.curves] == ["first training", "second training"]
        )


# The wizard


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """Two task folders; one of them with a broken line."""
    for name in ("python", "java"):
        (tmp_path / "data" / name).mkdir(parents=True)
        record = {"chat_rounds": [
            {"role": "human", "content": "add", "chat_round_id": 0},
            {"role": "bot", "content": "def add(a, b): return a + b", "chat_round_id": 1},
        ]}  # fmt: skip
        lines = [json.dumps(record)] * 3
        if name == "java":
            lines[1] = '{"chat_rounds": ['
        (tmp_path / "data" / name / "a.jsonl").write_text("\n".join(lines) + "\n")
    return tmp_path / "data"


async def _wizard(app: MftApp, pilot: object) -> WizardScreen:
    screen = WizardScreen()
    app.push_screen(screen)
    await until(pilot, lambda: screen.page is not None and screen.query(PathInput))  # type: ignore[arg-type]
    return screen


def _said(app: MftApp, selector: str) -> str:
    return str(app.screen.query_one(selector, Static).render())


async def test_data_is_checked_at_once_and_its_problems_are_walked_through(
    data: Path, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
        screen.query_one(PathInput).value = str(data)
        screen.query_one(PathInput).focus()
        await pilot.press("enter")
        await until(pilot, lambda: screen.draft.found.get("data", "").startswith("problem"))
        problems = screen.query_one("#problems", OptionList)
        problems.focus()
        await pilot.press("down")
        await until(pilot, lambda: "a.jsonl:2" in _said(app, "#record"))
        assert screen.query_one(CommandLine).argv == ("mft-tui", "validate", str(data))
        tasks = screen.query_one("#tasks", OptionList)
        tasks.focus()
        await pilot.press("down", "delete")
        await until(pilot, lambda: "data_paths" not in screen.draft.of("train"))


async def test_a_folder_that_is_not_there_is_said(make_app: Make, tmp_path: Path) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
        screen.query_one(PathInput).value = str(tmp_path / "nowhere")
        screen.query_one(PathInput).focus()
        await pilot.press("enter")
        await until(pilot, lambda: "not there" in _said(app, "#progress"))


async def test_tab_completes_a_folder(data: Path, make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
        line = screen.query_one(PathInput)
        line.focus()
        line.value = str(data / "py")
        await until(pilot, lambda: line._suggestion)
        await pilot.press("tab")
        assert line.value == f"{data / 'python'}/"


async def test_a_model_is_described_and_the_mask_of_its_records_shown(
    data: Path, make_app: Make, shared: Path, tmp_path: Path
) -> None:
    model = tmp_path / "model"
    model.mkdir()
    (model / "tokenizer.json").symlink_to(shared / "tokenizers" / "qwen3" / "tokenizer.json")
    (model / "config.json").write_text(json.dumps({
        "model_type": "qwen2", "hidden_size": 64, "num_hidden_layers": 2, "vocab_size": 152000,
        "num_attention_heads": 4, "num_key_value_heads": 4, "intermediate_size": 128,
        "max_position_embeddings": 4096, "tie_word_embeddings": True,
    }))  # fmt: skip
    (model / "model.safetensors").touch()
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
        screen.draft.of("train")["data_paths"] = [str(data / "python")]
        await pilot.press("f3")
        await until(pilot, lambda: screen.draft.step == "model" and screen.page is not None)
        line = screen.query_one("ModelStep PathInput", PathInput)
        line.value = str(model)
        line.focus()
        await pilot.press("enter")
        await until(pilot, lambda: screen.draft.found.get("model") == "ok: model")
        await pilot.press("f6")
        await until(pilot, lambda: isinstance(app.screen, PreviewScreen))
        preview = app.screen
        await until(pilot, lambda: "tokens trained" in preview.query_one("TitleBar").status)  # type: ignore[attr-defined]
        await pilot.press("right", "left", "escape")
        await until(pilot, lambda: app.screen is screen)
        await pilot.press("f3")
        await until(pilot, lambda: screen.draft.found.get("hardware", "").startswith("ok"))


async def test_settings_are_searched_changed_checked_and_reset(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
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


async def test_choices_are_turned_with_the_arrows(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
        await pilot.press("f3", "f3", "f3")
        await until(pilot, lambda: isinstance(app.focused, SettingList))
        form = screen.query_one("SettingsStep ConfigForm", ConfigForm)
        await pilot.press("down", "down", "right")
        assert form.values["padding_mode"] == "pack"
        await pilot.press("left")
        assert form.values["padding_mode"] == "padding"


async def test_presets_and_files_are_taken(make_app: Make, tmp_path: Path) -> None:
    reference = tmp_path / "reference.json"
    reference.write_text(json.dumps({"evalation_steps": 77, "tokenize_mode": "sft", "seed": 5}))
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
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


async def test_the_review_says_what_is_missing_and_does_not_launch(make_app: Make) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
        await pilot.press("f5")
        await until(pilot, lambda: isinstance(app.screen, ReviewScreen))
        review = app.screen
        assert isinstance(review, ReviewScreen)
        await until(pilot, lambda: review.review is not None)
        assert "pretrained_model_path must be given" in _said(app, "#words")
        await pilot.press("enter")
        assert app.screen is review
        await pilot.press("escape")
        await until(pilot, lambda: app.screen is screen)


async def test_a_draft_outlives_the_app(make_app: Make, state: StateFolder) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await _wizard(app, pilot)
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
        screen = await _wizard(app, pilot)
        commands = {}
        from mft_tui.screens.wizard.draft import STEPS

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
        await pilot.press("escape")
        await until(pilot, lambda: isinstance(app.screen, HomeScreen))
