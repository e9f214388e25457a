"""Which processes belong to a run, whether they live, and how to end them all.

A pid alone proves nothing: pids are given out again, and a record may come from before a reboot, or
from another machine or container that shares the state folder. So a process is named by its pid and
its start time, and a record by the machine that wrote it. The members of a run are found in three
ways, because each misses some: by descent (misses orphans), by the marker in their environment
(misses programs started with a clean one), and by what was seen before signalling (misses those
born since).
"""

import contextlib
import os
import platform
import signal
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import psutil

MARKER = "MFT_RUN_ID"
"""Environment variable that every process of a run's job inherits."""


@dataclass(frozen=True)
class Machine:
    """Where pids mean something: a host, since one boot, in one pid namespace."""

    host: str
    boot_id: str

    @classmethod
    def here(cls) -> "Machine":
        """This machine. Two containers on one host count as two machines."""
        return cls(platform.node(), f"{_boot_id()}/{_pid_namespace()}")

    def same_boot_elsewhere(self, other: "Machine") -> bool:
        """True when ``other`` is another container on this host, whose pids cannot be seen here."""
        mine, theirs = self.boot_id.split("/")[0], other.boot_id.split("/")[0]
        return self.host == other.host and mine == theirs and self.boot_id != other.boot_id


def _boot_id() -> str:
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return f"{psutil.boot_time():.0f}"


def _pid_namespace() -> str:
    try:
        return str(Path("/proc/self/ns/pid").readlink()).strip("pid:[]")
    except OSError:
        return ""


@dataclass(frozen=True)
class ProcessId:
    """A process that cannot be mistaken for a later one with the same pid."""

    pid: int
    started: float

    @classmethod
    def of(cls, pid: int) -> "ProcessId | None":
        """The process that has ``pid`` now; None without one."""
        try:
            return cls(pid, start_time(pid))
        except (OSError, psutil.Error):
            return None

    @property
    def alive(self) -> bool:
        """True while it runs; a zombie has ended."""
        try:
            process = psutil.Process(self.pid)
            return start_time(self.pid) == self.started and (
                process.status() != psutil.STATUS_ZOMBIE
            )
        except (OSError, psutil.Error):
            return False


def start_time(pid: int) -> float:
    """Seconds from boot to the start of ``pid``.

    psutil's create_time adds the boot time, which moves when the clock is set; this does not.
    Raises ``OSError`` or ``psutil.Error`` when there is no such process.
    """
    stat = Path(f"/proc/{pid}/stat")
    if not stat.parent.parent.joinpath("self").exists():  # not Linux
        return psutil.Process(pid).create_time()
    # The name in parentheses may itself hold spaces and parentheses.
    fields = stat.read_text(errors="replace").rpartition(")")[2].split()
    return int(fields[19]) / os.sysconf("SC_CLK_TCK")


def marked(run_id: str) -> set[ProcessId]:
    """The processes of this user that carry the run's marker."""
    wanted = f"{MARKER}={run_id}".encode()
    found = set()
    for pid in psutil.pids():
        try:
            environment = Path(f"/proc/{pid}/environ").read_bytes()
        except OSError:  # ended meanwhile, or another user's
            continue
        if wanted in environment.split(b"\0") and (process := ProcessId.of(pid)):
            found.add(process)
    return {process for process in found if process.alive and process.pid != os.getpid()}


def descendants(pid: int) -> set[ProcessId]:
    """Every living process below ``pid``, itself not included."""
    try:
        below = psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return set()
    found = {ProcessId.of(process.pid) for process in below}
    return {process for process in found if process is not None and process.alive}


def leaders(members: Iterable[ProcessId]) -> list[ProcessId]:
    """The ranks among ``members``: processes that a launcher gave a RANK, without their helpers.

    A stop goes to these, and not to the launcher: torch elastic answers SIGTERM by giving its ranks
    thirty seconds, which a checkpoint may need more than.
    """
    ranks = {process.pid: process for process in members if _has_rank(process.pid)}
    return [process for pid, process in ranks.items() if _parent(pid) not in ranks]


def _has_rank(pid: int) -> bool:
    try:
        variables = Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:
        return False
    return any(v.startswith(b"RANK=") for v in variables) and any(
        v.startswith(b"LOCAL_RANK=") for v in variables
    )


def _parent(pid: int) -> int:
    try:
        return psutil.Process(pid).ppid()
    except psutil.Error:
        return 0


def send(process: ProcessId, signum: int) -> None:
    """Signal ``process`` if it still is the one that was meant."""
    if process.alive:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(process.pid, signum)


def end_all(
    find: Callable[[], set[ProcessId]],
    *,
    patience: float = 10.0,
    sleep: Callable[[float], None] = time.sleep,
    clock: Callable[[], float] = time.monotonic,
) -> set[ProcessId]:
    """Kill what ``find`` returns until it returns nothing; return those that would not die.

    Asked again after each round because a process may have started another between being seen and
    being killed. ``patience`` in seconds: a process in uninterruptible sleep cannot be waited for.
    """
    deadline = clock() + patience
    while members := find():
        for process in members:
            send(process, signal.SIGKILL)
        if clock() > deadline:
            return find()
        sleep(0.02)
    return set()
