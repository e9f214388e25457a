"""Runs one process from outside: feeds nothing, reads everything, keeps little, ends it in time.

Separate from the providers because this is the part where races live: a child that keeps a pipe
open, a flood that must be drained and not kept, a limit hit in the same instant as the exit.
"""

import contextlib
import os
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from runners.evaluate.sandbox.base import (
    KEPT_END,
    KEPT_OUTPUT,
    Ended,
    Limits,
    Outcome,
    SandboxError,
)
from runners.evaluate.sandbox.halt import Halt, Halted

_CHUNK = 1 << 16
CROWD_SECONDS = 0.01
"""How often the number of processes is looked at."""
WATCH_SECONDS = 0.1
"""How often a watcher looks at what a tree of processes uses."""
_DRAIN_SECONDS = 1.0
# What uses this share of a core while its wall limit passes is no sleeper, and is waited for a few
# times as long.
_BUSY_SHARE = 0.05
_LONGEST_WAIT = 4.0


@dataclass(frozen=True)
class Usage:
    """What a watcher saw: bytes in use, processes alive, CPU seconds that they have used."""

    memory_bytes: int
    processes: int
    cpu_seconds: float


class _Stream:
    """One output pipe: counts everything, keeps the first ``keep`` bytes, and the end.

    A stream that is kept whole, because it is a stage's product, has its end already.
    """

    def __init__(self, fd: int, keep: int) -> None:
        self.fd = fd
        self.keep = keep
        self.kept = bytearray()
        self.end = b""
        self.total = 0

    def read(self) -> bool:
        """Take what is there; False at end of file."""
        chunk = os.read(self.fd, _CHUNK)
        self.total += len(chunk)
        if (room := self.keep - len(self.kept)) > 0:
            self.kept += chunk[:room]
        if self.keep <= KEPT_OUTPUT:
            self.end = (self.end + chunk)[-KEPT_END:]
        return bool(chunk)


def run_process(
    argv: Sequence[str],
    limits: Limits,
    *,
    keep_stdout: int,
    keep_stderr: int,
    stdin: int = subprocess.DEVNULL,
    pass_fds: Sequence[int] = (),
    cwd: str | None = None,
    environment: dict[str, str] | None = None,
    halt: Halt | None = None,
    watch: Callable[[int], Usage | None] | None = None,
    crowd: Callable[[int], bool] | None = None,
    end: Callable[[subprocess.Popen[bytes]], None] | None = None,
) -> Outcome:
    """Run ``argv`` in a session of its own until it ends or breaks a limit.

    ``watch`` is asked ten times a second what the process tree uses, as far as nothing else
    enforces it, and ``crowd`` a hundred times whether there are too many of them.
    ``end`` stops everything the process started; it is called exactly once, whatever happened.
    Raises ``SandboxError`` when the program cannot be started, and ``Halted`` when ``halt`` was
    set meanwhile.
    """
    begin = time.monotonic()
    try:
        process = subprocess.Popen(
            argv,
            stdin=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            pass_fds=tuple(pass_fds),
            start_new_session=True,
            cwd=cwd,
            env=environment,
        )
    except OSError as error:
        raise SandboxError(
            f"cannot start the sandbox ({error.strerror})",
            where=argv[0],
            fix="Run mft-tui doctor: it names the line that installs it.",
        ) from error
    assert process.stdout is not None
    assert process.stderr is not None
    out = _Stream(process.stdout.fileno(), keep_stdout)
    err = _Stream(process.stderr.fileno(), keep_stderr)
    try:
        with first_in_line() if crowd else contextlib.nullcontext():
            try:
                ended, seen = _follow(process, out, err, limits, begin, halt, watch, crowd)
            finally:
                (end or _kill_session)(process)
    finally:
        status, cpu, rss = _reap(process)
        process.stdout.close()
        process.stderr.close()
    return Outcome(
        ended=ended,
        exit_code=status if ended == "exited" else None,
        stdout=bytes(out.kept),
        stderr=bytes(err.kept),
        stdout_bytes=out.total,
        stderr_bytes=err.total,
        cpu_seconds=max(cpu, seen.cpu_seconds),
        wall_seconds=time.monotonic() - begin,
        memory_bytes=max(rss, seen.memory_bytes),
        stdout_end=out.end,
    )


@contextlib.contextmanager
def first_in_line() -> Iterator[None]:
    """Have this thread run before all that it watches, where that is allowed (to root, mostly).

    A fork bomb makes the line for the cores long: seconds, in which it grows. Threads and processes
    begun meanwhile stand in line as ever.
    """
    try:
        os.sched_setscheduler(0, os.SCHED_RR | os.SCHED_RESET_ON_FORK, os.sched_param(1))
    except OSError:  # not allowed, or not known to this kernel
        yield
        return
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def _follow(
    process: subprocess.Popen[bytes],
    out: _Stream,
    err: _Stream,
    limits: Limits,
    begin: float,
    halt: Halt | None,
    watch: Callable[[int], Usage | None] | None,
    crowd: Callable[[int], bool] | None,
) -> tuple[Ended, Usage]:
    """Read until the process is gone and its pipes are dry, or a limit is broken."""
    seen = Usage(0, 0, 0.0)
    deadline = begin + limits.wall_seconds
    last = begin + _LONGEST_WAIT * limits.wall_seconds
    counted = 0.0
    look_at = begin + WATCH_SECONDS
    tick = CROWD_SECONDS if crowd else WATCH_SECONDS if watch else limits.wall_seconds
    pidfd = os.pidfd_open(process.pid)
    try:
        with selectors.DefaultSelector() as selector:
            selector.register(pidfd, selectors.EVENT_READ, None)
            for stream in (out, err):
                selector.register(stream.fd, selectors.EVENT_READ, stream)
            if halt is not None:
                selector.register(halt.fd, selectors.EVENT_READ, halt)
            waiting = 0 if halt is None else 1
            while len(selector.get_map()) > waiting:
                now = time.monotonic()
                if now >= deadline:
                    # After the exit the deadline only ends the wait for pipes that a
                    # left-behind child holds open.
                    if pidfd not in selector.get_map():
                        return "exited", seen
                    spent = _spent(process.pid, watch)
                    if now >= last or spent - counted < _BUSY_SHARE * limits.wall_seconds:
                        return "timeout", seen
                    # It computes, on a machine that has little time for it: its CPU limit decides.
                    counted, deadline = spent, min(last, now + limits.wall_seconds)
                for key, _ in selector.select(min(deadline - now, tick)):
                    if key.data is halt and halt is not None:
                        raise Halted
                    if key.data is None:
                        selector.unregister(pidfd)
                        deadline = min(deadline, time.monotonic() + _DRAIN_SECONDS)
                    elif not key.data.read():
                        selector.unregister(key.fd)
                if out.total + err.total > limits.output_bytes:
                    return "output_limit", seen
                if crowd and crowd(process.pid):
                    return "memory_limit", seen
                if time.monotonic() < look_at:
                    continue
                look_at = time.monotonic() + WATCH_SECONDS
                if watch and (usage := watch(process.pid)):
                    seen = _most(seen, usage)
                    if seen.memory_bytes > limits.memory_bytes:
                        return "memory_limit", seen
                    if seen.processes > limits.processes:
                        return "memory_limit", seen
                    if seen.cpu_seconds > limits.tree_cpu_seconds:
                        return "timeout", seen
    finally:
        os.close(pidfd)
    return "exited", seen


def _spent(pid: int, watch: Callable[[int], Usage | None] | None) -> float:
    usage = watch(pid) if watch is not None else None
    return 0.0 if usage is None else usage.cpu_seconds


def _most(one: Usage, other: Usage) -> Usage:
    return Usage(
        max(one.memory_bytes, other.memory_bytes),
        max(one.processes, other.processes),
        max(one.cpu_seconds, other.cpu_seconds),
    )


def _reap(process: subprocess.Popen[bytes]) -> tuple[int, float, int]:
    """Wait, and return (status or minus signal, CPU seconds of the tree, peak RSS in bytes)."""
    _, raw, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(raw)
    return process.returncode, usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def _kill_session(process: subprocess.Popen[bytes]) -> None:
    with contextlib.suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
