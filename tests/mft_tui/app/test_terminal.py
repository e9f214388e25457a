"""The app in a real terminal: what it leaves behind when it goes, however it goes."""

import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pexpect
import psutil
import pytest

from db import RunRecord, open_store
from runners.benchmarks.demo import demo_benchmarks
from runners.config import EvaluateConfig
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.launch import launch
from runners.lifecycle.processes import ProcessId
from runners.lifecycle.stop import request_stop
from tests.runners.lifecycle.conftest import stand_in_command, survivors_of

pytestmark = pytest.mark.slow

_LEFT_SCREEN = b"\x1b[?1049l"
_ENTERED_SCREEN = b"\x1b[?1049h"
_CURSOR_SHOWN = b"\x1b[?25h"


class Job:
    """The stand-in job of a run, and whether it goes on."""

    def __init__(self, state: StateFolder, run_id: str) -> None:
        self.state, self.run_id = state, run_id

    def run(self) -> RunRecord:
        with open_store(self.state.database) as store:
            return store.get_run(self.run_id)

    def resume_in(self, child: "pexpect.spawn[bytes]") -> None:
        """Have the app start it, by its keys."""
        child.send(b"u")
        child.expect(b"Resume")
        child.send(b"y")
        _until(lambda: self.run().attempt == 2 and bool(self.run().job_pid))
        _until(lambda: self._steps() > 0)

    def _steps(self) -> int:
        return self.state.run(self.run_id).console.read_text().count("step ")

    def goes_on(self) -> bool:
        """Whether the same process is at work still, and the store says so."""
        run, before = self.run(), self._steps()
        assert run.job_pid is not None
        assert run.job_started is not None
        assert ProcessId(run.job_pid, run.job_started).alive
        _until(lambda: self._steps() > before + 5)
        assert (run.status, run.attempt) == ("running", 2)
        assert not self.state.run(self.run_id).stop_request.exists()
        return True


@pytest.fixture
def job(state: StateFolder, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Job]:
    """A run that was stopped, whose job works for an hour once the app has resumed it."""
    answers = tmp_path / "generations_m"
    answers.mkdir()
    (answers / "generations_mbpp_m.json").write_text("[]")
    monkeypatch.setenv("STAND_IN", "steps=100000,pause=0.04")
    config = EvaluateConfig(generations=answers, benchmarks=demo_benchmarks())
    with open_store(state.database) as store:
        launched = launch(
            config, store=store, state=state, name="run 1", job_command=stand_in_command
        )
        job = Job(state, launched)
        _until(lambda: job.run().status == "running")
        request_stop(job.run())
        _until(lambda: job.run().status == "stopped")
    state.run(launched).console.write_bytes(b"")
    yield job
    if job.run().status != "stopped":
        request_stop(job.run(), grace=2.0)
        _until(lambda: job.run().status == "stopped")
    assert survivors_of(state.root) == []


def _start(
    state: StateFolder, size: tuple[int, int] = (24, 80), **environment: str
) -> "pexpect.spawn[bytes]":
    child = pexpect.spawn(
        sys.executable,
        ["-m", "mft_tui"],
        env={**os.environ, "MFT_HOME": str(state.root), "TERM": "xterm-256color", **environment},
        dimensions=size,
        timeout=60,
    )
    child.expect(b"run 1")
    return child


def _ends(child: "pexpect.spawn[bytes]", seconds: float = 10) -> bytes:
    child.expect(pexpect.EOF, timeout=seconds)
    child.wait()
    return bytes(child.before or b"")


def test_sigterm_leaves_the_terminal_clean_and_the_job_untouched(
    state: StateFolder, job: Job
) -> None:
    child = _start(state)
    job.resume_in(child)
    child.kill(signal.SIGTERM)
    written = _ends(child)
    assert _LEFT_SCREEN in written
    assert _CURSOR_SHOWN in written
    assert child.exitstatus == 128 + signal.SIGTERM
    assert job.goes_on()


def test_a_closed_terminal_ends_the_app_and_not_the_job(state: StateFolder, job: Job) -> None:
    child = _start(state)
    job.resume_in(child)
    below = psutil.Process(child.pid).children(recursive=True)
    began = time.monotonic()
    os.close(child.child_fd)  # the kernel hangs up on whoever holds the other end
    child.closed = True
    while _alive(child.pid):
        assert time.monotonic() - began < 15
        time.sleep(0.05)
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
    assert job.goes_on()


def _alive(pid: int) -> bool:
    try:
        done, _ = os.waitpid(pid, os.WNOHANG)
    except ChildProcessError:
        return False
    return done == 0


def test_kill_9_touches_no_job_and_leaves_no_process(state: StateFolder, job: Job) -> None:
    child = _start(state)
    job.resume_in(child)
    below = psutil.Process(child.pid).children(recursive=True)
    child.kill(signal.SIGKILL)
    _ends(child)
    assert job.goes_on()
    _, alive = psutil.wait_procs(below, timeout=10)
    assert alive == []
    _opens_again(state)


def _opens_again(state: StateFolder) -> None:
    """What was killed left nothing that keeps the next one from starting."""
    again = _start(state)
    again.kill(signal.SIGTERM)
    _ends(again)


@pytest.mark.parametrize("how", ["key", "signal"])
def test_it_is_suspended_and_comes_back(state: StateFolder, job: Job, how: str) -> None:
    child = _start(state)
    job.resume_in(child)
    if how == "key":
        child.send(b"\x1a")
    else:
        child.kill(signal.SIGTSTP)
    child.expect_exact(_LEFT_SCREEN)
    _until(lambda: psutil.Process(child.pid).status() == psutil.STATUS_STOPPED)
    child.kill(signal.SIGCONT)
    child.expect_exact(_ENTERED_SCREEN)
    child.expect(b"run 1")
    child.send(b"?")
    child.expect(b"home.open")  # it listens to keys again
    child.kill(signal.SIGTERM)
    assert _LEFT_SCREEN in _ends(child)
    assert job.goes_on()


def _until(holds: Callable[[], bool]) -> None:
    end = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < end
        time.sleep(0.05)


def test_it_may_be_resized_while_its_log_floods(state: StateFolder, job: Job) -> None:
    child = _start(state)
    job.resume_in(child)
    child.send(b"\r")
    child.expect(b"Back")
    child.send(b"2")
    child.expect(b"following")
    console = state.run(job.run_id).console
    end = time.monotonic() + 3
    with console.open("ab") as file:
        turn = 0
        while time.monotonic() < end:
            file.write(b"flooding line\n" * 2000)
            file.flush()
            turn += 1
            child.setwinsize(15 + turn % 35, 50 + turn % 100)
            child.read_nonblocking(1 << 16, timeout=5)
    child.setwinsize(24, 80)

    def seen() -> bool:
        # Again and again: the job writes as well, and scrolls it away.
        with console.open("ab") as file:
            file.write(b"the flood is over\n")
        return child.expect([b"the flood is over", pexpect.TIMEOUT], timeout=0.3) == 0

    _until(seen)
    child.kill(signal.SIGTERM)
    assert _LEFT_SCREEN in _ends(child)
    assert job.goes_on()


def test_without_a_terminal_it_says_so_and_exits_2(mft_home: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "mft_tui"], stdin=subprocess.DEVNULL, capture_output=True, timeout=60
    )
    assert done.returncode == 2
    assert done.stdout == b""
    assert b"no terminal" in done.stderr


def test_no_color_leaves_shades_of_grey_alone(state: StateFolder, job: Job) -> None:
    def colours(**environment: str) -> set[bytes]:
        child = _start(state, COLORTERM="truecolor", **environment)
        shown = bytes(child.before or b"")
        child.kill(signal.SIGTERM)
        shown += _ends(child)
        return set(re.findall(rb"[34]8;2;(\d+;\d+;\d+)", shown))

    assert any(len(set(colour.split(b";"))) > 1 for colour in colours())
    grey = colours(NO_COLOR="1")
    assert grey
    assert all(len(set(colour.split(b";"))) == 1 for colour in grey)
