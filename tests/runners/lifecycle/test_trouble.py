"""What a run survives: a terminal that closes, a database that will not take it, a full disk."""

import contextlib
import os
import pty
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from db import open_store
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.liveness import refresh_run
from runners.lifecycle.processes import ProcessId
from runners.lifecycle.status import read_status
from runners.lifecycle.stop import request_stop
from tests.runners.lifecycle.conftest import STAND_IN, Bench, survivors_of

LAUNCHER = f"""
import sys, time
from pathlib import Path
from db import open_store
from runners.config import EvaluateConfig
from runners.lifecycle.command import JobCommand
from runners.lifecycle.folders import StateFolder
from runners.lifecycle.launch import launch
inputs = Path(sys.argv[1])
config = EvaluateConfig(generations=inputs / "generations_m", benchmarks=inputs / "bench")
state = StateFolder.default()
with open_store(state.database) as store:
    command = lambda c, f: JobCommand([sys.executable, {str(STAND_IN)!r}, str(f)])
    print(launch(config, store=store, state=state, job_command=command), flush=True)
time.sleep(600)
"""


def until(holds: object, what: str) -> None:
    deadline = time.monotonic() + 60
    while not holds():  # type: ignore[operator]
        assert time.monotonic() < deadline, f"never happened: {what}"
        time.sleep(0.02)


def test_a_closed_terminal_takes_the_launcher_and_not_the_run(bench: Bench) -> None:
    bench.monkeypatch.setenv("STAND_IN", "steps=4000,pause=0.02")
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", LAUNCHER, str(bench.inputs)])
    told = b""
    while b"\n" not in told:
        told += os.read(terminal, 1024)
    run_id = told.decode().strip()
    bench.at_step(run_id, 2)
    supervisor = bench.started(run_id).supervisor_pid
    assert supervisor is not None
    assert psutil.Process(supervisor).terminal() is None
    os.close(terminal)  # the hang-up
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == -signal.SIGHUP
    after = len(bench.logged(run_id))
    bench.at_step(run_id, after + 5)
    request_stop(bench.store.get_run(run_id))
    assert bench.ended(run_id).status == "stopped"


def test_a_locked_database_holds_up_neither_the_job_nor_its_stop(bench: Bench) -> None:
    run_id = bench.start("steps=4000,pause=0.02")
    bench.until(run_id, lambda run: run.status == "running")
    with contextlib.closing(sqlite3.connect(bench.state.database, isolation_level=None)) as other:
        other.execute("BEGIN IMMEDIATE")
        before = len(bench.logged(run_id))
        until(lambda: len(bench.logged(run_id)) > before + 10, "the job goes on")
        asked = time.monotonic()
        request_stop(bench.store.get_run(run_id))
        until(lambda: getattr(read_status(bench.folder(run_id).status), "ended", False), "stopped")
        assert time.monotonic() - asked < 10
        other.execute("ROLLBACK")
    assert bench.ended(run_id).status == "stopped"
    assert bench.stored(run_id) == bench.logged(run_id)


def test_what_a_vanished_database_missed_is_taken_in_when_it_is_back(bench: Bench) -> None:
    run_id = bench.start("steps=4000,pause=0.02")
    bench.until(run_id, lambda run: run.status == "running")
    supervisor = bench.started(run_id)
    # A guard would settle the run while we look the other way; without it only the files tell.
    guard = psutil.Process(supervisor.supervisor_pid).parent()
    assert guard is not None
    guard.kill()
    hidden = bench.state.root / "hidden"
    for part in bench.state.root.glob("mft.db*"):
        hidden.mkdir(exist_ok=True)
        part.rename(hidden / part.name)
    before = len(bench.logged(run_id))
    until(lambda: len(bench.logged(run_id)) > before + 10, "the job goes on")
    assert supervisor.supervisor_pid is not None
    psutil.Process(supervisor.supervisor_pid).kill()
    who = ProcessId(supervisor.supervisor_pid, supervisor.supervisor_started or 0.0)
    until(lambda: not who.alive, "the supervisor is dead")
    for part in bench.state.root.glob("mft.db*"):
        part.unlink()
    for part in hidden.iterdir():
        part.rename(bench.state.root / part.name)
    with open_store(bench.state.database) as store:
        run = refresh_run(store, store.get_run(run_id))
        assert run.status == "crashed"
        stored = [p.step for p in store.series(run_id, "loss", 2**31).points]
    assert stored == bench.logged(run_id)


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A disk of 6 MiB."""
    place = tmp_path / "disk"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=6m", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"cannot mount a small disk here: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def test_a_job_that_fills_the_disk_fails_and_says_so(
    bench: Bench, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    state = StateFolder(small_disk / "home")
    monkeypatch.setenv("MFT_HOME", str(state.root))
    with open_store(state.database) as store:
        small = Bench(state, store, bench.inputs, monkeypatch)
        run_id = small.start("steps=400,pause=0.02,fill=5")
        until(lambda: getattr(read_status(small.folder(run_id).status), "ended", False), "ended")
        status = read_status(small.folder(run_id).status)
        assert status is not None
        assert (status.status, status.exit_code) == ("failed", 1)
        assert "disk is full" in status.message
        (small.folder(run_id).path / "big").unlink()
        until(lambda: not survivors_of(state.root), "the supervisor is done")
        run = refresh_run(store, store.get_run(run_id))
        assert (run.status, run.exit_code) == ("failed", 1)
        assert "disk is full" in run.message
        assert small.stored(run_id) == small.logged(run_id) == [1, 2, 3, 4]


def test_a_disk_that_others_fill_stops_no_job_that_does_not_write(
    bench: Bench, small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Only the database is on the full disk; the run's folder is elsewhere."""
    state = StateFolder(small_disk / "home")
    state.root.mkdir()
    runs = bench.inputs / "runs"
    runs.mkdir()
    state.runs.symlink_to(runs)
    monkeypatch.setenv("MFT_HOME", str(state.root))
    with open_store(state.database) as store:
        small = Bench(state, store, bench.inputs, monkeypatch)
        run_id = small.start("steps=4000,pause=0.02")
        small.until(run_id, lambda run: run.status == "running")
        ballast = small_disk / "ballast"
        with contextlib.suppress(OSError), ballast.open("wb") as file:
            while True:
                file.write(b"x" * 4096)
                file.flush()
        before = len(small.logged(run_id))
        until(lambda: len(small.logged(run_id)) > before + 20, "the job goes on")
        ballast.unlink()
        request_stop(small.store.get_run(run_id))
        assert small.ended(run_id).status == "stopped"
        assert small.stored(run_id) == small.logged(run_id)
