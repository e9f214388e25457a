"""Runs of the stand-in job, in a state folder of the test's own, and proof that none is left."""

import os
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from db import RunRecord, Store, open_store
from runners.config import EvaluateConfig, JobConfig
from runners.lifecycle.command import JobCommand
from runners.lifecycle.events import Metrics, read_events
from runners.lifecycle.folders import RunFolder, StateFolder
from runners.lifecycle.launch import launch
from runners.lifecycle.processes import MARKER
from runners.lifecycle.status import LIVE, RunStatus, read_status

STAND_IN = Path(__file__).with_name("stand_in.py")
WAIT = 60.0


def stand_in_command(config: JobConfig, run_folder: Path) -> JobCommand:
    return JobCommand([sys.executable, str(STAND_IN), str(run_folder)])


@dataclass(frozen=True)
class Bench:
    """A store, its state folder, and a way to start stand-in runs there."""

    state: StateFolder
    store: Store
    inputs: Path
    monkeypatch: pytest.MonkeyPatch

    def start(self, behaviour: str = "steps=5", **options: object) -> str:
        self.monkeypatch.setenv("STAND_IN", behaviour)
        config = EvaluateConfig(
            generations=self.inputs / "generations_m", benchmarks=self.inputs / "bench"
        )
        options.setdefault("job_command", stand_in_command)
        return launch(config, store=self.store, state=self.state, **options)  # type: ignore[arg-type]

    def folder(self, run_id: str) -> RunFolder:
        return self.state.run(run_id)

    def until(self, run_id: str, holds: Callable[[RunRecord], bool]) -> RunRecord:
        deadline = time.monotonic() + WAIT
        while not holds(run := self.store.get_run(run_id)):
            assert time.monotonic() < deadline, f"still {run.status}: {self.told(run_id)}"
            time.sleep(0.02)
        return run

    def at_step(self, run_id: str, step: int) -> RunRecord:
        """Wait until the job has logged ``step``; the store may be behind."""
        return self.until(run_id, lambda _: len(self.logged(run_id)) >= step)

    def started(self, run_id: str) -> RunStatus:
        """Wait until there is a job process; the store may not know yet."""
        self.until(run_id, lambda _: self._status(run_id).job_pid is not None)
        return self._status(run_id)

    def _status(self, run_id: str) -> RunStatus:
        return read_status(self.folder(run_id).status) or RunStatus(status="queued")

    def logged(self, run_id: str) -> list[int]:
        """The steps in the event log."""
        events = self.folder(run_id).events
        if not events.exists():
            return []
        return [e.step for e, _ in read_events(events) if isinstance(e, Metrics)]

    def stored(self, run_id: str) -> list[int]:
        """The steps in the store."""
        return [p.step for p in self.store.series(run_id, "loss", 2**31).points]

    def ended(self, run_id: str) -> RunRecord:
        return self.until(run_id, lambda run: run.status not in LIVE)

    def told(self, run_id: str) -> str:
        folder = self.folder(run_id)
        files = (folder.console, folder.supervisor_log)
        return "\n".join(f.read_text() for f in files if f.exists())


@pytest.fixture
def inputs(tmp_path: Path) -> Path:
    for name in ("generations_m/generations_mbpp_m.json", "bench/mbpp.jsonl"):
        file = tmp_path / "inputs" / name
        file.parent.mkdir(parents=True)
        file.write_text("[]\n")
    return tmp_path / "inputs"


@pytest.fixture
def bench(mft_home: Path, inputs: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Bench]:
    state = StateFolder(mft_home)
    with open_store(state.database) as store:
        yield Bench(state, store, inputs, monkeypatch)
    survivors = survivors_of(mft_home)
    for process in survivors:
        process.kill()
    assert not survivors, f"left running: {survivors}"


def survivors_of(home: Path) -> list[psutil.Process]:
    """Job processes and supervisors of this state folder; the latter get a moment to end."""
    deadline = time.monotonic() + 10
    while True:
        found = [p for p in psutil.process_iter() if _belongs(p, home)]
        jobs = [p for p in found if MARKER in _environ(p)]
        if jobs or not found or time.monotonic() > deadline:
            return found
        time.sleep(0.05)


def _environ(process: psutil.Process) -> dict[str, str]:
    try:
        return process.environ()
    except psutil.Error:
        return {}


def _belongs(process: psutil.Process, home: Path) -> bool:
    return process.pid != os.getpid() and (
        (MARKER in _environ(process) and _environ(process).get("MFT_HOME") == str(home))
        or any(str(home / "runs") in part for part in _cmdline(process))
    )


def _cmdline(process: psutil.Process) -> list[str]:
    try:
        return process.cmdline()
    except psutil.Error:
        return []
