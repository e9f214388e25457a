"""The supervisor: starts a run's job, watches it, stops it, and says how it ended.

It has nothing to do with the terminal and little with the database (the recorder's thread has):
what it must never do is miss the job's end, leave one of the job's processes behind, or stop the
job for any reason but that somebody asked.
"""

import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import msgspec

from runners.errors import ExitCode
from runners.lifecycle import kernel
from runners.lifecycle.ending import Ending, judge
from runners.lifecycle.folders import RunFolder, StateFolder
from runners.lifecycle.launchfile import Launch, read_launch
from runners.lifecycle.locking import exclusive
from runners.lifecycle.processes import (
    MARKER,
    Machine,
    ProcessId,
    descendants,
    end_all,
    leaders,
    marked,
    send,
)
from runners.lifecycle.recorder import Recorder
from runners.lifecycle.status import LIVE, RunStatus, read_status, write_status
from runners.lifecycle.stop import take_stop_request

LOOK_SECONDS = 0.25
"""Between looks for a stop request; the job's end and signals are noticed at once."""

LEFTOVER_SECONDS = 2.0
"""What the rest of a job gets to end by itself once its leader has."""

DATABASE_PATIENCE = 30.0
"""How long a finished run waits for a database that will not take its last events."""


@dataclass
class _Stopping:
    """A stop under way: when the wait is over, and who was there when it began."""

    deadline: float
    members: set[ProcessId]


def supervise(folder: RunFolder) -> int:
    """Supervise one attempt of the run to its end; return the supervisor's exit status."""
    with exclusive(folder.lock) as alone:
        if not alone:
            print(f"{folder.run_id}: another supervisor has this run", file=sys.stderr)
            return ExitCode.REFUSED
        return _Attempt(folder, read_launch(folder.launch)).run()


class _Attempt:
    """One attempt of a run, from the start of its job to its last process."""

    def __init__(self, folder: RunFolder, launch: Launch) -> None:
        self.folder = folder
        self.launch = launch
        me = ProcessId.of(os.getpid())
        assert me is not None
        machine = Machine.here()
        before = read_status(folder.status)
        self.status = RunStatus(
            status="queued",
            attempt=before.attempt if before else 1,
            host=machine.host,
            boot_id=machine.boot_id,
            supervisor_pid=me.pid,
            supervisor_started=me.started,
        )
        self.recorder = Recorder(folder, Path(launch.database), me, machine)
        self.stopping: _Stopping | None = None
        self.asked_by_signal = False
        self.events_before = folder.events.stat().st_size if folder.events.exists() else 0

    def run(self) -> int:
        kernel.adopt_orphans()
        with _wakeups(self._on_signal) as wait:
            job = self._start_job()
            self.recorder.start()
            code = self._watch(job, wait) if job else None
            self._sweep()
            ending = judge(self.folder, self.events_before, code, asked=self.stopping is not None)
            changed = self._verify()
            self._end(ending, changed)
        return ExitCode.DONE

    # The job

    def _start_job(self) -> "subprocess.Popen[bytes] | None":
        console = self.folder.console.open("ab")
        cwd = Path(self.launch.cwd)
        try:
            job = subprocess.Popen(
                self.launch.argv,
                cwd=cwd if cwd.is_dir() else self.folder.path,
                env={**os.environ, **self.launch.env, MARKER: self.launch.run_id},
                stdin=subprocess.DEVNULL,
                stdout=console,
                stderr=subprocess.STDOUT,
                start_new_session=True,
                preexec_fn=kernel.die_with_parent,  # noqa: PLW1509 - no thread has been started yet
            )
        except OSError as error:
            console.write(f"error: {self.launch.argv[0]}: {error.strerror}\n".encode())
            return None
        finally:
            console.close()
        process = ProcessId.of(job.pid)
        self._change(
            "running",
            LIVE,
            started_at=time.time(),
            job_pid=job.pid,
            job_started=process.started if process else None,
        )
        return job

    def _watch(self, job: "subprocess.Popen[bytes]", wait: Callable[[float], None]) -> int:
        """Follow the job to its end; return its exit status as subprocess gives it."""
        while (code := job.poll()) is None:
            request = take_stop_request(self.folder)
            if self.asked_by_signal or request:
                self.asked_by_signal = False
                grace = self.launch.grace
                if request and request.grace is not None:
                    grace = request.grace
                self._begin_stop(job, grace)
            if self.stopping and time.monotonic() >= self.stopping.deadline:
                self._kill(job)
                return job.wait()
            wait(LOOK_SECONDS)
            self._reap_adopted(job.pid)
        return code

    def _begin_stop(self, job: "subprocess.Popen[bytes]", grace: float) -> None:
        deadline = time.monotonic() + grace
        if self.stopping is not None:
            self.stopping.deadline = min(self.stopping.deadline, deadline)
            return
        # Before signalling: ranks of torch elastic lead sessions of their own, and once their
        # launcher is gone nothing but this list, or their marker, tells whose they were.
        self.stopping = _Stopping(deadline, self._members())
        self._change("stopping", LIVE)
        ranks = leaders(self.stopping.members)
        leader = ProcessId.of(job.pid)
        for process in ranks or ([leader] if leader else []):
            send(process, signal.SIGTERM)

    def _kill(self, job: "subprocess.Popen[bytes]") -> None:
        assert self.stopping is not None
        seen = self.stopping.members

        def remaining() -> set[ProcessId]:
            self._reap_adopted(job.pid)
            return self._members() | {process for process in seen if process.alive}

        end_all(remaining)

    def _sweep(self) -> None:
        """Let what is left of the job end by itself for a moment, then end it."""
        deadline = time.monotonic() + LEFTOVER_SECONDS
        while self._members() and time.monotonic() < deadline:
            self._reap_adopted(None)
            time.sleep(0.05)

        def remaining() -> set[ProcessId]:
            self._reap_adopted(None)
            return self._members()

        for process in end_all(remaining):
            print(f"{self.launch.run_id}: process {process.pid} will not die", file=sys.stderr)

    def _members(self) -> set[ProcessId]:
        return descendants(os.getpid()) | marked(self.launch.run_id)

    def _reap_adopted(self, job_pid: int | None) -> None:
        """Collect orphans that ended as our children; the job itself is its Popen's to collect."""
        with suppress(ChildProcessError):
            while ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT):
                if ended.si_pid == job_pid:
                    return
                os.waitpid(ended.si_pid, 0)

    # What is told

    def _on_signal(self) -> None:
        self.asked_by_signal = True

    def _change(self, to: str, expected: frozenset[str], **fields: object) -> None:
        self.status = msgspec.structs.replace(self.status, status=to, **fields)
        # A full disk holds this up until the next change; the recorder has it as well.
        with suppress(OSError):
            write_status(self.folder.status, self.status)
        who = {
            name: getattr(self.status, name)
            for name in ("host", "boot_id", "supervisor_pid", "supervisor_started")
        }
        self.recorder.change(to, expected, **who, **fields)

    def _verify(self) -> list[str] | None:
        # Here and not above: the configs it imports would hold up the start of the job.
        from runners.lifecycle.provenance import changed_inputs

        try:
            return changed_inputs(self.folder, StateFolder(Path(self.launch.database).parent))
        except OSError as error:
            print(f"the inputs could not be verified: {error}", file=sys.stderr)
            return None

    def _end(self, ending: Ending, changed: list[str] | None) -> None:
        message = ending.message
        if changed:
            told = f"Inputs changed while the run used them: {', '.join(changed)}"
            message = f"{message}. {told}" if message else told
        self.status = msgspec.structs.replace(
            self.status,
            changed_inputs=changed or [],
            inputs_verified=None if changed is None else not changed,
        )
        fields: dict[str, object] = {"ended_at": time.time(), "exit_code": ending.exit_code}
        if message:
            fields["message"] = message
        # From crashed too: somebody may have taken this supervisor for dead.
        self._change(ending.status, LIVE | {"crashed"}, **fields)
        if not self.recorder.close(DATABASE_PATIENCE):
            print(
                "the database did not take the end of this run; it will when the run is next seen",
                file=sys.stderr,
            )
            sys.stderr.flush()


@contextmanager
def _wakeups(asked_to_stop: Callable[[], None]) -> Iterator[Callable[[float], None]]:
    """Yield ``wait(seconds)``, which returns early when a child ends or a signal comes.

    SIGTERM, SIGINT and SIGUSR1 ask for a stop. SIGHUP is a terminal closing, and nothing to us.
    """
    reading, writing = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    signal.set_wakeup_fd(writing, warn_on_full_buffer=False)
    signal.signal(signal.SIGCHLD, lambda *_: None)
    signal.signal(signal.SIGHUP, lambda *_: None)  # ignored would be inherited by the job
    for signum in (signal.SIGTERM, signal.SIGINT, signal.SIGUSR1):
        signal.signal(signum, lambda *_: asked_to_stop())

    def wait(seconds: float) -> None:
        ready, _, _ = select.select([reading], [], [], seconds)
        if ready:
            with suppress(BlockingIOError):
                os.read(reading, 4096)

    try:
        yield wait
    finally:
        signal.set_wakeup_fd(-1)
        os.close(reading)
        os.close(writing)
