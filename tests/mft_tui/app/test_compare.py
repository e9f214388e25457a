"""Evaluations and their failures, and runs side by side."""

import io
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import pytest
from rich.console import Console
from textual.widgets import OptionList, Static

from db import RunRecord, VerdictRecord, open_store
from mft_tui.screens.compare import CompareScreen
from mft_tui.screens.failures import FailuresScreen, _coloured
from mft_tui.screens.measured import evaluation_of
from mft_tui.widgets.metric_chart import MetricChart
from mft_tui.widgets.task_rows import TaskRows
from mft_tui.widgets.title_bar import TitleBar
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.conftest import NOW, add_run, add_scores, run_id
from tests.mft_tui.app.driving import ROOMY, Make, open_monitor
from tests.mft_tui.app.waiting import until


async def test_an_evaluation_shows_its_tasks_and_their_failures(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = await open_monitor(app, pilot, 4)
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


def _sampled(state: StateFolder, kept: set[int]) -> RunRecord:
    """An evaluation of two questions with three samples each, of which the store has ``kept``.

    Only sample 1 of the first question and sample 2 of the second one pass.
    """
    answers = state.root / "generations_m"
    answers.mkdir()
    (answers / "generations_mbpp_m.json").write_text(
        json.dumps([[f"answer {index} {sample}" for sample in range(3)] for index in range(2)])
    )
    run = add_run(
        state, 7, kind="evaluate", name="sampled", config=json.dumps({"generations": str(answers)})
    )
    rows = []
    for index, sample in itertools.product(range(2), range(3)):
        passed = (index, sample) in {(0, 1), (1, 2)}
        detail = "" if passed else f"went wrong {index} {sample}"
        status = "passed" if passed else "wrong"
        rows.append(VerdictRecord(index, f"t/{index}", passed, status, 0.1, detail, sample))
    verdicts = Path(run.folder) / "artifacts" / "metrics_m" / "verdicts_mbpp_m.jsonl"
    verdicts.parent.mkdir(parents=True)
    verdicts.write_text("".join(json.dumps(asdict(row)) + "\n" for row in rows))
    with open_store(state.database) as store:
        writer = store.writer(run.id)
        writer.score("mbpp", 2, 6, 1 / 3, NOW)
        writer.verdicts("mbpp", [row for row in rows if row.sample in kept])
        writer.commit()
    return run


@pytest.mark.parametrize("kept", [{0, 1, 2}, {2}, set()], ids=["all", "the-last", "none"])
async def test_each_failed_sample_is_browsed_with_its_own_answer(
    filled: StateFolder, make_app: Make, kept: set[int]
) -> None:
    run = _sampled(filled, kept)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = FailuresScreen(run, "mbpp", 1)
        app.push_screen(screen)
        await until(pilot, lambda: screen.query(OptionList) and _option_words(screen))
        assert _option_words(screen) == [
            "   0  sample 0  wrong",
            "   0  sample 2  wrong",
            "   1  sample 0  wrong",
            "   1  sample 1  wrong",
        ]
        assert screen.query_one(TitleBar).status == "2 of 6 samples passed"
        await until(pilot, lambda: "went wrong 1 0" in str(screen.query_one("#text").render()))
        await pilot.press("down", "2")
        await until(pilot, lambda: "answer 1 1" in str(screen.query_one("#text").render()))


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
        await until(pilot, lambda: "chance alone could do this" in _flip_words(screen))
        assert "of 8 questions 0 won, 2 lost" in _flip_words(screen)
        assert "− mbpp   2  passed → wrong" in _flip_words(screen)
        await pilot.press("1")
        await until(pilot, lambda: "seed" in _table_words(screen))
        assert "learning_rate" not in _table_words(screen)


async def test_a_flipped_question_is_opened_at_the_answer_that_failed(
    filled: StateFolder, make_app: Make
) -> None:
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = CompareScreen([run_id(4), run_id(5)])
        app.push_screen(screen)
        await until(pilot, lambda: screen.found)
        await pilot.press("4")
        await until(pilot, lambda: screen.query_one("#flips").has_focus)
        await pilot.press("end", "enter")
        await until(pilot, lambda: isinstance(app.screen, FailuresScreen))
        failures = app.screen
        await until(pilot, lambda: "AssertionError" in str(failures.query_one("#text").render()))
        assert failures.query_one(TitleBar).title == "failures  mbpp"
        choices = failures.query_one(OptionList)
        assert choices.highlighted is not None
        assert str(choices.get_option_at_index(choices.highlighted).prompt).split()[0] == "2"


async def test_two_trainings_are_compared_by_the_evaluation_of_their_answers(
    filled: StateFolder, make_app: Make
) -> None:
    add_run(filled, 7, kind="generate", name="more answers", parent_id=run_id(2))
    add_run(filled, 8, kind="evaluate", name="its scores", parent_id=run_id(7))
    add_scores(filled, 8, 4)
    app = make_app()
    async with app.run_test(size=ROOMY) as pilot:
        screen = CompareScreen([run_id(1), run_id(2), run_id(6)])
        app.push_screen(screen)
        await until(pilot, lambda: screen.found)
        await until(pilot, lambda: "mean" in _table_words(screen))
        rows = {line.split()[0]: line.split()[1:] for line in _table_words(screen).splitlines()
                if line.split()}  # fmt: skip
        assert rows["mbpp"] == ["0.500", "1.000"]  # the newer evaluation of the first one's answers
        assert rows["measured"] == ["by", run_id(5), run_id(8), "—"]
        assert "of 8 questions 4 won, 0 lost" in _flip_words(screen)
        assert "they have no verdict on the same question" in _flip_words(screen)


async def test_an_export_is_as_good_as_the_generation_it_was_made_of(filled: StateFolder) -> None:
    add_run(filled, 7, kind="export", parent_id=run_id(3))
    add_run(filled, 8, kind="evaluate", parent_id=run_id(3), status="stopped")
    add_scores(filled, 8, 4)
    with open_store(filled.database) as store:
        found = evaluation_of(store, store.get_run(run_id(7)))
        assert found is not None
        assert found.id == run_id(5)
        assert evaluation_of(store, store.get_run(run_id(6))) is None


def test_a_diff_is_told_by_its_signs_and_in_the_themes_colours() -> None:
    diff = "--- canonical\n+++ candidate\n@@ -1 +1 @@\n-return a\n+return b\n same"
    shown = _coloured(diff, {"success": "#00ff00", "error": "ansi_red"})
    assert shown.plain.rstrip() == diff
    assert [str(span.style) for span in shown.spans] == ["bold", "bold", "dim", "red", "#00ff00"]


def _option_words(screen: FailuresScreen) -> list[str]:
    choices = screen.query_one("#list", OptionList)
    return [str(choices.get_option_at_index(n).prompt) for n in range(choices.option_count)]


def _flip_words(screen: CompareScreen) -> str:
    flips = screen.query_one("#flips", OptionList)
    return "\n".join(
        str(flips.get_option_at_index(place).prompt) for place in range(flips.option_count)
    )


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
