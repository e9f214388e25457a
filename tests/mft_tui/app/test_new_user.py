"""A new user in a real terminal, keyboard only: from an empty home through the wizard to the zip,
closed and reopened, stopped and resumed, replayed, compared, exported. What is claimed is read from
the screen, and from the database."""

import json
import shutil
import sqlite3
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import RunRecord, RunRow, open_store
from mft_tui.cli import demo
from runners.benchmarks.demo import demo_benchmarks
from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app.terminal import Terminal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(2400)]

_REFERENCE = {
    "seq_length": 512, "peft_type": "full", "learning_rate": 0.003, "data_split": "100,0,0",
    "per_device_train_batch_size": 13, "num_train_epochs": 30, "evaluation_steps": 0,
    "checkpointing_steps": 5, "log_interval": 1, "use_cpu": True,
}  # fmt: skip


@pytest.fixture(
    params=[
        pytest.param("80x24", marks=pytest.mark.full),
        pytest.param("160x50", marks=pytest.mark.full),
    ]
)
def terminal(state: StateFolder, request: pytest.FixtureRequest) -> Iterator[Terminal]:
    """The app in tmux, at both sizes."""
    for needed in ("tmux", "bwrap"):
        if shutil.which(needed) is None:
            pytest.skip(f"needs {needed}, which is not here")
    width, height = map(int, request.param.split("x"))
    opened = Terminal(state.root, (width, height))
    yield opened
    opened.close()


def _runs(state: StateFolder) -> dict[str, RunRow]:
    """The newest run of each kind."""
    with open_store(state.database, read_only=True) as store:
        return {row.run.kind: row for row in reversed(store.list_runs().rows)}


def _count(state: StateFolder) -> int:
    with sqlite3.connect(f"file:{state.database}?mode=ro", uri=True) as connection:
        return int(connection.execute("SELECT count(*) FROM run").fetchone()[0])


def test_from_an_empty_home_to_the_zip_and_back_again(
    terminal: Terminal, state: StateFolder, tmp_path: Path
) -> None:
    _, model = demo._prepare(tmp_path / "material")
    (tmp_path / "reference.json").write_text(json.dumps(_REFERENCE))

    _draft(terminal, tmp_path, model)
    _train_closing_stopping_and_resuming(terminal, state)
    _generate_and_evaluate(terminal, state)
    _export_through_the_wizard(terminal, state)
    _export_with_one_key(terminal, state)
    _replay_and_compare(terminal, state)

    terminal.press("q")
    assert "LEFT 0" in terminal.shows("LEFT", 10)


def _draft(terminal: Terminal, folder: Path, model: Path) -> None:
    terminal.shows("No runs yet")
    terminal.press("n")
    terminal.shows("task folders")
    terminal.type(str(folder / "material" / "data"))
    terminal.shows("records in 3 tasks")
    terminal.goes_to("the base model", "F3")
    terminal.type(str(model))
    terminal.shows("vocabulary")
    terminal.goes_to("memory of one rank", "F3")
    terminal.shows("fits")
    terminal.goes_to("padding_mode", "F3")
    terminal.press("C-o")
    terminal.shows("Load settings")
    terminal.type(str(folder / "reference.json"))
    terminal.shows("settings loaded")


def _train_closing_stopping_and_resuming(terminal: Terminal, state: StateFolder) -> None:
    terminal.press("F5")
    terminal.shows("enter to launch")
    terminal.press("Enter")
    terminal.shows("/60 ")
    assert _runs(state)["train"].run.status == "running"

    terminal.press("C-q")
    terminal.shows("is still going")
    terminal.press("d")
    assert "LEFT 0" in terminal.shows("LEFT", 10)
    assert _runs(state)["train"].run.status == "running"
    terminal.open_again()
    terminal.shows("/60 ")  # the monitor, where one was

    terminal.press("s")
    terminal.shows("■ stopped")
    stopped = _runs(state)["train"].run
    assert stopped.status == "stopped"
    assert stopped.done is not None
    assert stopped.done < 60
    terminal.press("u")
    terminal.shows("Resume draft?")
    terminal.press("y")
    terminal.shows("attempt 2")
    terminal.shows("✓ finished", 600)
    trained = _runs(state)["train"]
    assert trained.run.attempt == 2
    assert trained.metrics["loss"] < 4


def _generate_and_evaluate(terminal: Terminal, state: StateFolder) -> None:
    terminal.goes_to("mft-tui  runs", "Escape")
    terminal.press("n")
    terminal.goes_to("answers to the 13 tasks", "F3")
    terminal.sets("benchmark folder", str(demo_benchmarks()))
    terminal.sets("max_length most", "512")
    terminal.launches("✓ finished", 300)
    terminal.shows("26/26")
    generated = _runs(state)["generate"].run
    assert generated.parent_id == _runs(state)["train"].run.id

    terminal.press("Escape")
    terminal.goes_to("pass@1 a task", "F3")
    terminal.sets("benchmark folder", str(demo_benchmarks()))
    terminal.sets("tasks", "humanevalsynthesize-python, mbpp")
    terminal.launches("✓ finished", 300)
    terminal.shows("4 of 4 questions")
    evaluated = _runs(state)["evaluate"]
    assert evaluated.run.parent_id == generated.id
    assert evaluated.scored == 2


def _export_through_the_wizard(terminal: Terminal, state: StateFolder) -> None:
    terminal.press("Escape")
    terminal.goes_to("the 13 files checked and zipped", "F3")
    terminal.launches("✓ finished", 60)
    exported = _runs(state)["export"].run
    assert exported.parent_id == _runs(state)["generate"].run.id
    _is_a_submission(Path(json.loads(exported.summary)["zip"]))
    terminal.goes_to("mft-tui  runs", "Escape")


def _export_with_one_key(terminal: Terminal, state: StateFolder) -> None:
    terminal.press("End", "x")  # on the training: its generation is found below it
    terminal.shows("Submission written")
    again = _runs(state)["export"].run
    assert _count(state) == 5
    assert again.parent_id == _runs(state)["generate"].run.id
    _is_a_submission(Path(json.loads(again.summary)["zip"]))


def _is_a_submission(archive: Path) -> None:
    with zipfile.ZipFile(archive) as content:
        assert len([name for name in content.namelist() if name.endswith(".json")]) == 13


def _replay_and_compare(terminal: Terminal, state: StateFolder) -> None:
    terminal.press("Home", "r")  # an export: its replay is the generation and the export again
    terminal.shows("Replay")
    terminal.shows("grade A")
    terminal.press("y")
    terminal.shows("exit 0", 900)
    replays = [run for run in _all(state) if run.replay_of]
    assert {run.kind for run in replays} >= {"train", "generate", "export"}
    assert {run.status for run in replays} == {"finished"}

    terminal.press("/")
    terminal.type("kind:train")
    terminal.shows("2 runs")
    terminal.press("Home", "Space", "Space", "c")
    terminal.shows("compare")
    terminal.press("3")
    terminal.shows("loss/basic-problems")
    terminal.press("2")
    terminal.shows("loss  ━")
    terminal.press("Escape", "Escape", "Escape")
    terminal.shows("mft-tui  runs")


def _all(state: StateFolder) -> list[RunRecord]:
    with open_store(state.database, read_only=True) as store:
        return [row.run for row in store.list_runs().rows]
