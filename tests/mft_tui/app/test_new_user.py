"""A new user in a real terminal, keyboard only: from an empty home to the zip, stop and resume
included. What is claimed is read from the screen, and from the database."""

import itertools
import json
import os
import shutil
import subprocess
import sys
import time
import zipfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from db import RunRow, open_store
from mft_tui.cli import demo
from runners.benchmarks.demo import demo_benchmarks
from runners.lifecycle.folders import StateFolder

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]

_numbers = itertools.count()


class Terminal:
    """A tmux session of its own, with the app in it."""

    def __init__(self, home: Path, size: tuple[int, int]) -> None:
        self._socket = f"mft-test-{os.getpid()}-{next(_numbers)}"
        width, height = size
        command = f"env MFT_HOME={home} {sys.executable} -m mft_tui; echo LEFT $?; sleep 600"
        self._tmux(
            "-f", "/dev/null", "new-session", "-d", "-x", str(width), "-y", str(height), command
        )

    def _tmux(self, *arguments: str) -> str:
        done = subprocess.run(
            ["tmux", "-L", self._socket, *arguments], capture_output=True, text=True, check=True
        )
        return done.stdout

    def screen(self) -> str:
        """What stands there now."""
        return self._tmux("capture-pane", "-p")

    def press(self, *keys: str) -> None:
        """Press named keys, at a person's pace."""
        for key in keys:
            self._tmux("send-keys", key)
            time.sleep(0.4)

    def type(self, text: str) -> None:
        """Type a text and enter."""
        self._tmux("send-keys", "-l", text)
        time.sleep(0.4)
        self.press("Enter")

    def shows(self, text: str, seconds: float = 120) -> str:
        """Wait until the text stands somewhere; the whole screen."""
        end = time.monotonic() + seconds
        while text not in (screen := self.screen()):
            assert time.monotonic() < end, f"{text!r} never came:\n{screen}"
            time.sleep(0.2)
        return screen

    def goes_to(self, words: str, key: str) -> None:
        """Press a key until a page is there that says so."""
        for _ in range(9):
            time.sleep(1)
            if words in self.screen():
                return
            self.press(key)
        raise AssertionError(f"no page says {words!r}:\n{self.screen()}")

    def sets(self, key: str, value: str) -> None:
        """Search a setting in the form and change it."""
        self.press("/")
        self.type(key)
        self.press("Enter", "C-u")
        self.type(value)

    def close(self) -> None:
        """End the terminal."""
        subprocess.run(["tmux", "-L", self._socket, "kill-server"], capture_output=True)


@pytest.fixture
def terminal(state: StateFolder) -> Iterator[Terminal]:
    """80 by 24."""
    if shutil.which("tmux") is None:
        pytest.skip("needs tmux, which is not here")
    opened = Terminal(state.root, (80, 24))
    yield opened
    opened.close()


def _runs(state: StateFolder) -> dict[str, RunRow]:
    with open_store(state.database, read_only=True) as store:
        return {row.run.kind: row for row in store.list_runs().rows}


def test_from_an_empty_home_to_the_zip(
    terminal: Terminal, state: StateFolder, tmp_path: Path
) -> None:
    _, model = demo._prepare(tmp_path / "material")
    reference = {
        "seq_length": 512, "peft_type": "full", "learning_rate": 0.003, "data_split": "100,0,0",
        "per_device_train_batch_size": 13, "num_train_epochs": 30, "evaluation_steps": 0,
        "checkpointing_steps": 5, "log_interval": 1, "use_cpu": True,
    }  # fmt: skip
    (tmp_path / "reference.json").write_text(json.dumps(reference))

    terminal.shows("No runs yet")
    terminal.press("n")
    terminal.shows("task folders")
    terminal.type(str(tmp_path / "material" / "data"))
    terminal.shows("records in 3 tasks")
    terminal.goes_to("the base model", "F3")
    terminal.type(str(model))
    terminal.shows("end of turn")
    terminal.goes_to("memory of one rank", "F3")
    terminal.shows("fits")
    terminal.goes_to("padding_mode", "F3")
    terminal.press("C-o")
    terminal.shows("Load settings")
    terminal.type(str(tmp_path / "reference.json"))
    terminal.shows("settings loaded")
    terminal.press("F5")
    terminal.shows("enter to launch")
    terminal.press("Enter")
    terminal.shows("/60 step")
    assert _runs(state)["train"].run.status == "running"

    terminal.press("s")
    terminal.shows("stopped")
    assert _runs(state)["train"].run.status == "stopped"
    terminal.press("u")
    terminal.shows("Resume draft?")
    terminal.press("y")
    terminal.shows("attempt 2")
    terminal.shows("finished", 400)
    trained = _runs(state)["train"]
    assert trained.run.attempt == 2
    assert trained.metrics["loss"] < 4

    terminal.press("Escape")
    terminal.goes_to("answers to the 13 tasks", "F3")
    terminal.sets("benchmark folder", str(demo_benchmarks()))
    terminal.sets("max_length most", "512")
    terminal.press("F5")
    terminal.shows("enter to launch")
    terminal.press("Enter")
    terminal.shows("26/26")
    terminal.shows("finished", 300)
    generated = _runs(state)["generate"].run
    assert generated.parent_id == trained.run.id

    terminal.goes_to("mft-tui  runs", "Escape")
    terminal.press("Home", "x")
    terminal.shows("Submission written")
    exported = _runs(state)["export"].run
    assert exported.parent_id == generated.id
    archive = Path(json.loads(exported.summary)["zip"])
    with zipfile.ZipFile(archive) as content:
        assert len([name for name in content.namelist() if name.endswith(".json")]) == 13

    terminal.press("q")
    assert "LEFT 0" in terminal.shows("LEFT", 10)
