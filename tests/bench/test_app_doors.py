"""What the app costs at the door: from its start to the first paint, and from the key to its end.

Every bar is DESIGN.md's. The app runs in a terminal of its own, as a person starts it. Ratios are
taken in one run on one machine, each time the best of a few tries.
"""

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pexpect
import psutil
import pytest

from runners.lifecycle.folders import StateFolder
from tests.mft_tui.app import conftest
from tests.mft_tui.app.conftest import run_id

state, filled = conftest.state, conftest.filled

pytestmark = [pytest.mark.bench, pytest.mark.timeout(900)]

_HEAVY = """
import json, sys
from mft_tui.app import MftApp
class Painted(MftApp):
    def _display(self, screen, renderable):
        super()._display(screen, renderable)
        if not getattr(self, "heavy", None):
            names = ("torch", "transformers", "sqlmodel", "sqlalchemy", "pydantic")
            self.heavy = [m for m in names if m in sys.modules] or ["none"]
            self.exit()
app = Painted()
app.run(headless=True, size=(80, 24))
print(json.dumps(app.heavy))
"""
_BARE = """
from textual.app import App
from textual.widgets import Footer, Input, Static
class Bare(App):
    def compose(self):
        yield Input()
        yield Static("hello there")
        yield Footer()
Bare().run()
"""


def _start(home: Path, *arguments: str) -> "pexpect.spawn[bytes]":
    """A program of this Python in a terminal of its own; the app without arguments."""
    return pexpect.spawn(
        sys.executable,
        [*(arguments or ("-m", "mft_tui"))],
        env={**os.environ, "MFT_HOME": str(home), "TERM": "xterm-256color"},
        dimensions=(30, 120),
        timeout=60,
    )


def _first_paint(home: Path, words: bytes, *arguments: str) -> float:
    """Seconds from starting the process to its words on the terminal."""
    began = time.perf_counter()
    child = _start(home, *arguments)
    child.expect(words)
    seconds = time.perf_counter() - began
    child.close(force=True)
    return seconds


def test_first_paint_costs_at_most_1_6_times_a_bare_app(tmp_path: Path) -> None:
    ours, bare = [], []
    for _ in range(7):
        ours.append(_first_paint(tmp_path / "h", b"runs"))  # mft-tui as it is typed, Typer and all
        bare.append(_first_paint(tmp_path / "h", b"hello there", "-c", _BARE))
    ratio = min(ours) / min(bare)
    print(f"\nfirst paint {min(ours) * 1e3:.0f} ms, bare {min(bare) * 1e3:.0f} ms: {ratio:.2f}x")
    done = subprocess.run(
        [sys.executable, "-c", _HEAVY], capture_output=True, text=True, check=True,
        env={**os.environ, "MFT_HOME": str(tmp_path / "h")}, timeout=120,
    )  # fmt: skip
    assert json.loads(done.stdout.strip().splitlines()[-1]) == ["none"]
    assert ratio <= 1.6


def _at_home(child: "pexpect.spawn[bytes]") -> None:
    child.expect(b"first training")


def _in_monitor(child: "pexpect.spawn[bytes]") -> None:
    _at_home(child)
    child.send(b"\r")
    child.expect(b"Back")


def _in_a_log_search(child: "pexpect.spawn[bytes]") -> None:
    _in_monitor(child)
    child.send(b"2")
    child.expect(b"following")
    child.send(b"/")
    child.expect(b"empty to clear")
    child.send(b"absent\r")
    child.expect(b"searching")


def _in_wizard(child: "pexpect.spawn[bytes]") -> None:
    _at_home(child)
    child.send(b"n")
    child.expect(b"task folders")


def _checking_data(child: "pexpect.spawn[bytes]") -> None:
    _in_wizard(child)
    child.expect(b"checking")


def _in_dialog(child: "pexpect.spawn[bytes]") -> None:
    _at_home(child)
    child.send(b"d")
    child.expect(b"Delete")


def _launching(child: "pexpect.spawn[bytes]") -> None:
    _at_home(child)
    child.send(b"G")  # the training; what was generated with it is exported
    child.send(b"x")
    child.expect(b"hashed first")
    child.send(b"\x11")
    child.expect(b"still going")


@pytest.mark.parametrize(
    ("place", "key"),
    [
        (_at_home, b"q"),
        (_in_monitor, b"\x11"),
        (_in_a_log_search, b"\x11"),
        (_in_wizard, b"\x11"),
        (_checking_data, b"\x11"),
        (_in_dialog, b"\x11"),
        (_launching, b"d"),
    ],
)
def test_leaving_takes_at_most_a_second(
    filled: StateFolder, tmp_path: Path, place: "Callable[[pexpect.spawn[bytes]], None]", key: bytes
) -> None:
    if place is _checking_data:
        _draft_of_much_data(filled, tmp_path / "data")
    elif place is _in_a_log_search:
        with filled.run(run_id(6)).console.open("wb") as file:
            file.write(b"nothing of note\n" * 20_000_000)
    elif place is _launching:
        answers = filled.run(run_id(3)).path / "artifacts" / "generations_m"
        answers.mkdir(parents=True)
        with (answers / "hole").open("wb") as file:
            file.truncate(64 << 30)  # no space, and a minute to hash
    child = _start(filled.root)
    place(child)
    below = psutil.Process(child.pid).children(recursive=True)
    began = time.perf_counter()
    child.send(key)
    child.expect(pexpect.EOF)
    child.wait()
    left = time.perf_counter() - began
    print(f"\nleaving {place.__name__.strip('_').replace('_', ' ')}: {left * 1e3:.0f} ms")
    survivors = [process for process in below if process.is_running()]
    for process in survivors:
        process.kill()
    assert child.exitstatus == 0
    assert bool(survivors) is (place is _launching)  # what is launched goes on
    assert left <= 1.0


def _draft_of_much_data(state: StateFolder, folder: Path) -> None:
    """A draft whose data takes long to check."""
    record = {"chat_rounds": [
        {"role": "human", "content": "add", "chat_round_id": 0},
        {"role": "bot", "content": "def add(a, b): return a + b " * 40, "chat_round_id": 1},
    ]}  # fmt: skip
    (folder / "python").mkdir(parents=True)
    with (folder / "python" / "a.jsonl").open("wb") as file:
        for _ in range(30):
            file.write((json.dumps(record) + "\n").encode() * 50_000)
    draft = state.root / "drafts" / "draft"
    draft.mkdir(parents=True)
    values = {"train": {"data_paths": [str(folder / "python")]}}
    (draft / "draft.json").write_text(json.dumps({"name": "draft", "values": values}))
    (state.root / "app.json").write_text(json.dumps({"draft": "draft"}))
