"""The models beneath the widgets: curves, words, settings, drafts, task files, lanes."""

import asyncio
import json
import math
import threading
import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mft_tui.screens.preferences import Preferences, load_preferences, save_preferences
from mft_tui.screens.wizard.draft import Draft, Drafts
from mft_tui.screens.wizard.job_step import command_of
from mft_tui.screens.wizard.settings_step import PRESETS, Preset, with_preset
from mft_tui.widgets.config_fields import (
    Inherited,
    differing,
    displayed,
    inherited,
    problems,
    settings_of,
    shown,
    typed,
)
from mft_tui.widgets.curves import Curve, Window, log_ticks, nearest, smoothed, ticks, within
from mft_tui.widgets.lanes import Lane
from mft_tui.widgets.path_input import complete_path
from mft_tui.widgets.quantities import ago, bar, number, size, span
from mft_tui.widgets.task_files import TaskFiles, TaskState
from runners.config import KINDS


def test_durations_have_at_most_two_units() -> None:
    assert [span(s) for s in (7, 200, 7500, 530_000)] == ["7s", "3m 20s", "2h 05m", "6d 3h"]
    assert span(None) == span(math.nan) == ""


def test_ages_counts_and_sizes_are_short() -> None:
    assert [ago(t, 100_000.0) for t in (99_999, 99_700, 10_000)] == ["now", "5m ago", "1d ago"]
    assert [number(v) for v in (1.23456, 2e-5, 1234567, math.nan)] == [
        "1.235", "2e-5", "1,234,567", "nan",
    ]  # fmt: skip
    assert size(5 * 2**30) == "5.0 GiB"


@given(st.floats(-1, 2), st.integers(1, 60))
def test_a_bar_is_as_wide_as_its_column(share: float, width: int) -> None:
    assert len(bar(share, width)) == width


def test_smoothing_starts_at_the_first_value_and_follows() -> None:
    assert smoothed([4.0, 4.0, 4.0], 0.9) == pytest.approx([4.0, 4.0, 4.0])
    assert smoothed([1.0, 2.0], 0.0) == [1.0, 2.0]


def test_values_that_cannot_be_drawn_are_counted() -> None:
    curve = Curve("loss", [1, 2, 3], [1.0, math.nan, math.inf])
    assert (list(curve.finite().values), curve.odd) == ([1.0], 2)


def test_the_cursor_reads_the_nearest_point() -> None:
    assert nearest(Curve("a", [0, 10, 20], [5.0, 6.0, 7.0]), 13) == (10, 6.0)
    assert nearest(Curve("a", [], []), 13) is None


@given(st.floats(0.1, 10), st.floats(0, 100), st.floats(-3, 3))
def test_zooming_and_moving_never_leave_the_whole(factor: float, at: float, share: float) -> None:
    whole = Window(0.0, 100.0)
    window = Window(20.0, 60.0).zoomed(factor, at, whole).moved(share, whole)
    assert whole.low - 1e-6 <= window.low <= window.high <= whole.high + 1e-6


def test_a_window_keeps_a_neighbour_at_each_side() -> None:
    curve = Curve("a", list(range(10)), [float(n) for n in range(10)])
    assert list(within(curve, Window(3.5, 5.5)).steps) == [3, 4, 5, 6]


@given(st.floats(-1e6, 1e6), st.floats(1e-3, 1e6), st.integers(2, 12))
def test_ticks_are_round_and_inside(low: float, width: float, count: int) -> None:
    found = ticks(low, low + width, count)
    slack = width * 1e-6
    assert all(low - slack <= tick <= low + width + slack for tick in found) or found == [low]
    assert len(found) <= count + 2


def test_every_setting_of_every_job_is_a_row_with_group_and_explanation() -> None:
    for kind, model in KINDS.items():
        settings = settings_of(kind)
        assert [s.key for s in settings] == list(model.model_fields)
        assert all(s.group and s.explanation for s in settings)


def test_choices_come_from_the_model() -> None:
    by_key = {s.key: s for s in settings_of("train")}
    assert by_key["padding_mode"].choices == ("padding", "pack", "concat")
    assert by_key["early_stopping"].is_flag
    assert by_key["quantization"].choices[0] is None
    assert by_key["learning_rate"].limits == "> 0"
    assert by_key["data_paths"].required


def test_what_is_shown_can_be_typed_back() -> None:
    for setting in settings_of("train"):
        if setting.default is not None:
            values = {"data_paths": ["d"], "pretrained_model_path": "m"}
            again = typed(setting, shown(setting.default))
            assert setting.key not in problems("train", {**values, setting.key: again})


def test_a_value_that_does_not_fit_is_explained_by_key() -> None:
    values = {"data_paths": ["d"], "pretrained_model_path": "m", "learning_rate": "fast"}
    assert set(problems("train", values)) == {"learning_rate"}
    assert problems("train", {})["pretrained_model_path"] == "must be given"


def test_only_what_differs_from_the_default_is_told() -> None:
    values = {"data_paths": ["d"], "seed": 42, "seq_length": 64}
    assert set(differing("train", values)) == {"data_paths", "seq_length"}


def test_a_draft_survives_and_its_config_is_a_file_for_the_command(tmp_path: Path) -> None:
    drafts = Drafts(tmp_path)
    draft = Draft("one", values={"train": {"seed": 7}}, runs={"train": "abc"})
    drafts.save(draft)
    again = drafts.load("one")
    assert again is not None
    assert (again.values, again.runs) == (draft.values, draft.runs)
    assert json.loads(drafts.config_file(draft, "train").read_text()) == {"seed": 7}
    assert drafts.fresh_name("one") == "one-2"


def test_a_draft_is_written_as_it_was_when_it_was_asked_for(tmp_path: Path) -> None:
    drafts, draft = Drafts(tmp_path), Draft("one", values={"train": {"seed": 7}})
    files = drafts.encoded(draft)
    draft.of("evaluate")["jobs"] = 4
    drafts.write(files)
    again = drafts.load("one")
    assert again is not None
    assert again.values == {"train": {"seed": 7}}


def test_a_damaged_draft_is_passed_over_and_kept(tmp_path: Path) -> None:
    (tmp_path / "bad").mkdir()
    (tmp_path / "bad" / "draft.json").write_text("{")
    assert Drafts(tmp_path).load("bad") is None
    assert (tmp_path / "bad" / "draft.json").exists()


def test_damaged_preferences_are_set_aside(tmp_path: Path) -> None:
    path = tmp_path / "app.json"
    path.write_text("not json")
    assert load_preferences(path) == Preferences()
    assert (tmp_path / "app.damaged.json").read_text() == "not json"
    save_preferences(path, Preferences(theme="light"))
    assert load_preferences(path).theme == "light"


def test_the_command_of_a_page_says_only_what_was_set() -> None:
    values = {"generations": "out/generations_x", "tasks": ["mbpp"], "strict": True}
    assert command_of("evaluate", values) == [
        "mft-tui", "evaluate", "out/generations_x", "--tasks", "mbpp", "--strict",
    ]  # fmt: skip


def test_the_command_of_a_page_names_what_is_still_to_be_given() -> None:
    assert command_of("generate", {}) == [
        "mft-tui", "generate", "--model", "MODEL", "--model-name", "MODEL_NAME",
    ]  # fmt: skip
    told = command_of("generate", {"engine": "completions", "model_name": "m"})
    assert "--model" not in told
    assert "MODEL_NAME" not in told


def _preset(word: str) -> Preset:
    return next(preset for preset in PRESETS if word in preset.name)


@pytest.mark.parametrize("first", [p.name for p in PRESETS if p.group == "method"])
@pytest.mark.parametrize("then", [p.name for p in PRESETS if p.group == "method"])
def test_a_preset_takes_the_place_of_another_of_its_group(first: str, then: str) -> None:
    given = {"data_paths": ["d"], "pretrained_model_path": "m", "seed": 7}
    values = with_preset(with_preset(given, _preset(first)), _preset(then))
    assert values == with_preset(given, _preset(then))
    assert problems("train", values) == {}


def test_presets_of_several_groups_go_together_and_what_was_set_by_hand_stays() -> None:
    values = with_preset({"gradient_accumulation_steps": 8}, _preset("QLoRA"))
    values = with_preset({**values, "gradient_accumulation_steps": 4}, _preset("CoBa"))
    values = with_preset(values, _preset("LoRA, packed"))
    assert values["gradient_accumulation_steps"] == 4
    assert values["weighted_loss_mode"] == "coba"
    assert "quantization" not in values


def test_what_the_environment_and_the_defaults_say_is_inherited(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "mft-tui").mkdir()
    (tmp_path / "mft-tui" / "defaults.toml").write_text(
        "[train]\nevalation_steps = 33\nseed = 1\n[generate]\nseed = 2\n"
    )
    found = inherited("train", {"MFT_LEARNING_RATE": "0.01", "MFT_SEED": "5", "MFT_HOME": "/x"})
    assert found == {
        "evaluation_steps": Inherited(33, "user default"),
        "seed": Inherited(5, "environment"),
        "learning_rate": Inherited(0.01, "environment"),
    }


def test_nothing_is_a_dash_whichever_way_it_is_nothing() -> None:
    assert [displayed(value) for value in (None, "", [], {})] == ["–"] * 4
    assert [displayed(value) for value in (False, 0, "x")] == ["off", "0", "x"]


def test_paths_are_completed_as_a_shell_does(tmp_path: Path) -> None:
    (tmp_path / "alpha").mkdir()
    (tmp_path / "also.txt").touch()
    assert complete_path(f"{tmp_path}/al", folders_only=True) == f"{tmp_path}/alpha/"
    assert complete_path(f"{tmp_path}/als", folders_only=False) == f"{tmp_path}/also.txt"
    assert complete_path(f"{tmp_path}/zzz", folders_only=False) is None
    assert complete_path("/no/such/folder/x", folders_only=True) is None


def test_task_files_count_each_question_once_and_wait_for_the_newline(tmp_path: Path) -> None:
    folder = tmp_path / "metrics_m"
    folder.mkdir()
    path = folder / "verdicts_mbpp_m.jsonl"
    files = TaskFiles(tmp_path, "verdicts", {"mbpp": TaskState("mbpp", 3)})
    assert not files.look()
    path.write_text('{"index": 0, "passed": true}\n{"index": 0, "passed": true}\n{"index": 1, "pa')
    assert files.look()
    assert (files.tasks["mbpp"].done, files.tasks["mbpp"].passed) == (1, 1)
    with path.open("a") as file:
        file.write('ssed": false, "status": "wrong"}\nnot json\n')
    files.look()
    assert (files.tasks["mbpp"].done, files.tasks["mbpp"].pass_at_1) == (2, 0.5)
    assert files.recent[-1].status == "wrong"


async def test_a_lane_runs_calls_in_order_in_one_thread_and_carries_errors() -> None:
    lane = Lane("test")
    threads = [await lane.call(threading.get_ident) for _ in range(3)]
    assert len(set(threads)) == 1
    assert threads[0] != threading.get_ident()
    with pytest.raises(ZeroDivisionError):
        await lane.call(lambda: 1 / 0)


async def test_a_call_that_is_cancelled_before_its_turn_never_runs() -> None:
    lane, ran = Lane("test"), []
    first = asyncio.create_task(lane.call(time.sleep, 0.1))
    await asyncio.sleep(0.01)
    second = asyncio.create_task(lane.call(ran.append, 1))
    await asyncio.sleep(0.01)
    second.cancel()
    await first
    await lane.call(lambda: None)
    assert ran == []


def test_ticks_of_a_log_axis_are_powers_of_ten_or_halves_and_fifths_of_them() -> None:
    assert log_ticks(0.1, 100, 4) == pytest.approx([0.1, 1.0, 10.0, 100.0])
    assert log_ticks(1, 10, 5) == pytest.approx([1, 2, 5, 10])
    assert log_ticks(-1, 10, 5) == [-1]


def test_verdicts_that_are_put_in_order_at_the_end_are_all_counted(tmp_path: Path) -> None:
    folder = tmp_path / "metrics_m"
    folder.mkdir()
    path = folder / "verdicts_mbpp_m.jsonl"
    files = TaskFiles(tmp_path, "verdicts", {"mbpp": TaskState("mbpp", 2)})
    path.write_text('{"index": 1, "passed": true, "status": "passed"}\n')
    files.look()
    ordered = tmp_path / "ordered"
    ordered.write_text('{"index": 0, "passed": false, "status": "wrong"}\n' + path.read_text())
    ordered.replace(path)
    files.look()
    assert (files.tasks["mbpp"].done, files.tasks["mbpp"].passed) == (2, 1)
