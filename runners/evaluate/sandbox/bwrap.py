"""The default provider: bubblewrap, with every namespace unshared.

A program sees an empty root with read-only system folders and its toolchain, a private ``/proc``
and ``/dev``, bounded tmpfs folders, no network, no environment, no privileges, and a seccomp
filter. It cannot see the person's home, other processes, or any folder that outlives it.
"""

import contextlib
import os
import re
import select
import shutil
import signal
import subprocess
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path

from runners.evaluate.sandbox.base import (
    KEPT_OUTPUT,
    WORK,
    Limits,
    Outcome,
    Program,
    SandboxError,
    Server,
)
from runners.evaluate.sandbox.cgroup import Cage, make_cage
from runners.evaluate.sandbox.halt import Halt
from runners.evaluate.sandbox.process import Usage, run_process
from runners.evaluate.sandbox.seccomp import seccomp_filter
from runners.evaluate.sandbox.server import PipeServer
from runners.evaluate.sandbox.watchdog import Crowd, tree_usage

_SYSTEM_FOLDERS = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32")
_SYSTEM_FILES = ("/etc/alternatives", "/etc/ld.so.cache")
_PIPE_BYTES = 4096
_PATIENCE_SECONDS = 5.0
_BASE_ENVIRONMENT = {"PATH": "/usr/local/bin:/usr/bin:/bin", "HOME": WORK, "LANG": "C.UTF-8"}

# Joins its groups and takes its limits before anything else of the sandbox exists; the loop eats
# the group folders up to "--". The soft CPU limit is reached first: its signal tells why. ulimit -f
# counts blocks of 512 bytes in a POSIX shell.
_DOORWAY = (
    'ulimit -c 0; ulimit -S -t "$1"; ulimit -H -t "$(($1 + 2))"; '
    'ulimit -f "$2"; ulimit -n "$3"; shift 3; '
    'while [ "$1" != -- ]; do echo $$ > "$1/cgroup.procs" || exit 125; shift; done; shift; '
    'exec "$@"'
)
# The product of a stage becomes its standard output; whatever the stage itself prints moves to
# standard error.
_COLLECT = 'out=$1; shift; "$@" 1>&2 </dev/null || exit $?; exec cat -- "$out"'

# Before Linux 5.14 this limit counted all processes of the person, whatever their namespace. dash
# calls it -p and bash -u.
_COUNTS_BY_NAMESPACE = tuple(int(n) for n in re.findall(r"\d+", os.uname().release)[:2]) >= (5, 14)
_FEW_PROCESSES = '{ ulimit -u "$1" || ulimit -p "$1"; } 2>/dev/null; shift; exec "$@"'


class BwrapSandbox:
    """Runs each program in a bubblewrap of its own."""

    name = "bwrap"

    def __init__(
        self,
        *,
        executable: str | None = None,
        cage: Callable[[], Cage | None] = make_cage,
        halt: Halt | None = None,
    ) -> None:
        self._halt = halt
        # Found here: the shell that starts it has no PATH of the person's.
        self._executable = executable or shutil.which("bwrap") or "bwrap"
        self._new_cage = cage
        self._cage = cage()
        # A watchdog cannot see memory that no process has mapped.
        self._filter = seccomp_filter(unmapped_memory=self._cage is not None)

    @property
    def limits_by(self) -> str:
        """What enforces memory and process limits here, for doctor."""
        return "watchdog" if self._cage is None else f"cgroup v{self._cage.version}"

    def run(self, program: Program, limits: Limits) -> Outcome:
        """Run ``program`` in a fresh sandbox. Raises ``SandboxError`` if that cannot be made."""
        cage = self._cage
        if cage is not None:
            cage.prepare(limits)
        with contextlib.ExitStack() as open_files:
            argv, fds, status = self._command(program, limits, cage, open_files)
            stdin = _full_pipe(program.stdin)
            open_files.callback(os.close, stdin)
            outcome = run_process(
                argv,
                limits,
                stdin=stdin,
                keep_stdout=program.keep_stdout,
                keep_stderr=KEPT_OUTPUT,
                pass_fds=fds,
                environment={},
                halt=self._halt,
                watch=tree_usage if cage is None else lambda _: _usage(cage),
                crowd=Crowd(limits.processes) if cage is None else None,
                end=self._ender(cage, status),
            )
            _raise_if_not_made(outcome, started=b'"exit-code"' in os.pread(status, 4096, 0))
        return _judged_by(cage, outcome) if cage is not None else outcome

    def serve(self, program: Program, limits: Limits) -> Server:
        """Start a server in a sandbox (and cage) of its own."""
        if program.nested and self._filter is None:
            raise SandboxError("there is no filter for this machine's processor")
        cage = self._new_cage() if self._cage is not None else None
        if cage is not None:
            cage.prepare(limits)
        with contextlib.ExitStack() as open_files:
            argv, fds, status = self._command(program, limits, cage, open_files)
            status = os.dup(status)

            def after() -> None:
                os.close(status)
                if cage is not None:
                    cage.close()

            return PipeServer(
                argv,
                limits,
                fds,
                halt=self._halt,
                watch=tree_usage if cage is None else lambda _: _usage(cage),
                crowd=Crowd(limits.processes) if cage is None else None,
                end=self._ender(cage, status),
                after=after,
            )

    def close(self) -> None:
        """Remove the control groups."""
        if self._cage is not None:
            self._cage.close()
            self._cage = None

    def _ender(self, cage: Cage | None, status: int) -> Callable[[subprocess.Popen[bytes]], None]:
        if cage is None:
            return lambda process: _end(process, status)
        return lambda process: _end_in_cage(process, cage)

    def _command(
        self,
        program: Program,
        limits: Limits,
        cage: Cage | None,
        open_files: contextlib.ExitStack,
    ) -> tuple[list[str], list[int], int]:
        """The command line, the descriptors it needs, and the one that bubblewrap reports on.

        Its words on standard error could just as well be the program's.
        """
        fds: list[int] = []

        def hold(content: bytes) -> str:
            fd = memory_file(content)
            open_files.callback(os.close, fd)
            fds.append(fd)
            return str(fd)

        status = hold(b"")

        cpu = max(1, round(limits.cpu_seconds))
        argv = ["/bin/sh", "-c", _DOORWAY, "sh"]
        argv += [str(cpu), str(limits.disk_bytes // 512), str(limits.open_files)]
        argv += [str(folder) for folder in (cage.folders if cage else ())]
        argv += ["--", self._executable, "--json-status-fd", status]
        argv += isolation(nested=program.nested)
        argv += _root(program, limits.disk_bytes)
        # Where we are root, the sandbox's user is root to the kernel too: /proc/sys and sysrq
        # would obey it. Our fork server has to write its user map, and hides /proc from its forks.
        for folder in ("/dev", "/") if program.nested else ("/dev", "/proc", "/"):
            argv += ["--remount-ro", folder]
        files = dict(program.files)
        if program.nested and self._filter is not None:
            files["filter.bpf"] = self._filter
        for name, content in files.items():
            argv += ["--perms", "0755", "--file", hold(content), f"{WORK}/{name}"]
        for key, value in (_BASE_ENVIRONMENT | dict(program.environment)).items():
            argv += ["--setenv", key, value]
        if self._filter is not None and not program.nested:
            argv += ["--seccomp", hold(self._filter)]
        argv += ["--chdir", WORK, "--"]
        if cage is None:
            argv += _watched(program, limits)
        argv += _stage(program)
        return argv, fds, int(status)


def isolation(*, nested: bool) -> list[str]:
    argv = ["--unshare-all", "--unshare-user", "--die-with-parent", "--new-session", "--clearenv"]
    argv += ["--uid", "1000", "--gid", "1000", "--hostname", "sandbox", "--cap-drop", "ALL"]
    return argv if nested else [*argv, "--disable-userns"]


def _root(program: Program, disk_bytes: int) -> Iterator[str]:
    for folder in _SYSTEM_FOLDERS:
        path = Path(folder)
        if path.is_symlink():
            yield from ("--symlink", str(path.readlink()), folder)
        elif path.is_dir():
            yield from ("--ro-bind", folder, folder)
    for file in _SYSTEM_FILES:
        yield from ("--ro-bind-try", file, file)
    yield from ("--proc", "/proc", "--dev", "/dev")
    for folder in ("/tmp", WORK):  # noqa: S108 - the sandbox's own
        yield from ("--size", str(disk_bytes), "--tmpfs", folder)
    for mount in program.mounts:
        yield from ("--ro-bind", str(mount.source), mount.target)


def _watched(program: Program, limits: Limits) -> Sequence[str]:
    """What stands before a program that only a watchdog limits.

    The watchdog looks a hundred times a second, and a fork bomb is quicker: it stays below the
    kernel's own limit where that counts by namespace (not where we are root), and behind in turn,
    so that the watchdog is heard, and the first process of the namespace can end it all.
    """
    behind = ["nice", "-n", "10"]
    if program.nested or not _COUNTS_BY_NAMESPACE:
        return behind
    return ["/bin/sh", "-c", _FEW_PROCESSES, "sh", str(limits.processes), *behind]


def _stage(program: Program) -> Sequence[str]:
    if program.collect is None:
        return list(program.argv)
    return ["/bin/sh", "-c", _COLLECT, "sh", f"{WORK}/{program.collect}", *program.argv]


def _full_pipe(content: bytes) -> int:
    """A pipe that holds ``content`` and then ends; the caller closes it.

    Unlike a file, it is empty once it was read: process 1, which keeps its standard input, is no
    way back to it. Raises ``ValueError`` for more than a pipe takes at once.
    """
    out, into = os.pipe()
    try:
        if len(content) > _PIPE_BYTES:
            raise ValueError(f"standard input of {len(content)} bytes; {_PIPE_BYTES} is the most")
        os.write(into, content)
    except BaseException:
        os.close(out)
        raise
    finally:
        os.close(into)
    return out


def memory_file(content: bytes) -> int:
    """A file descriptor of an unnamed file in memory, at its beginning; the caller closes it."""
    fd = os.memfd_create("mft", 0)
    view = memoryview(content)
    while view:
        view = view[os.write(fd, view) :]
    os.lseek(fd, 0, os.SEEK_SET)
    return fd


def _end(process: subprocess.Popen[bytes], status: int) -> None:
    """Kill bwrap and wait until nothing of its process namespace is left.

    When the first process of the namespace is killed, the kernel kills everything in it, daemons
    too. That takes a moment, also where bwrap has ended by itself.
    """
    with contextlib.ExitStack() as open_files:
        first = _first_process(status)
        if first is not None:
            pid, descriptor = first
            open_files.callback(os.close, descriptor)
            with contextlib.suppress(OSError):  # where it is allowed
                # It has to run to end, and until then a fork bomb goes on before it in the line.
                os.sched_setscheduler(pid, os.SCHED_RR, os.sched_param(1))
            with contextlib.suppress(ProcessLookupError):
                signal.pidfd_send_signal(descriptor, signal.SIGKILL)
        _kill(process.pid)
        if first is not None:
            # The first process of a namespace has ended when all others have.
            select.select([descriptor], [], [], _PATIENCE_SECONDS)


def _end_in_cage(process: subprocess.Popen[bytes], cage: Cage) -> None:
    _kill(process.pid)
    cage.empty()


def _kill(pid: int) -> None:
    with contextlib.suppress(ProcessLookupError):
        # Not Popen.kill: that reaps, and with the status the accounting would be gone.
        os.kill(pid, signal.SIGKILL)


def _first_process(status: int) -> tuple[int, int] | None:
    """The namespace's first process, and a descriptor that becomes readable when it has ended.

    None when it has already, or was never there. ``status`` is what bwrap reports on.
    """
    told = re.search(rb'"child-pid": (\d+)', os.pread(status, 4096, 0))
    if told is None:
        return None
    pid = int(told[1])
    try:
        descriptor = os.pidfd_open(pid)
        # A process that is ending has no command line; any other one's number was used again.
        words = Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return None
    if words and b"\0--json-status-fd\0" not in words:
        os.close(descriptor)
        return None
    return pid, descriptor


def _usage(cage: Cage) -> Usage | None:
    """What only we can limit in a cage: its CPU time."""
    cpu = cage.cpu_seconds()
    return None if cpu is None else Usage(0, 0, cpu)


def _raise_if_not_made(outcome: Outcome, *, started: bool) -> None:
    not_there = outcome.stderr.startswith(b"bwrap: execvp")
    if outcome.exit_code in {1, 125} and not started and not not_there:
        message = outcome.stderr.decode(errors="replace").strip()
        raise SandboxError(
            f"the sandbox could not be made: {message}",
            fix="Run mft-tui doctor: it says what this machine lacks and how to enable it.",
        )


def _judged_by(cage: Cage, outcome: Outcome) -> Outcome:
    ended = outcome.ended
    if cage.out_of_memory():
        ended = "memory_limit"
    return replace(
        outcome,
        ended=ended,
        exit_code=outcome.exit_code if ended == "exited" else None,
        cpu_seconds=outcome.cpu_seconds if (cpu := cage.cpu_seconds()) is None else cpu,
        memory_bytes=cage.peak() or outcome.memory_bytes,
    )
