"""Memory and process limits by control groups, version 2 where delegated, else version 1.

A cage is made once for each worker and used for one program after the other. Where this machine
lets us make none, the watchdog counts instead (``watchdog.py``).
"""

import contextlib
import itertools
import os
import signal
import subprocess
import time
from dataclasses import dataclass, field
from pathlib import Path

from runners.evaluate.sandbox.base import Limits

_ROOT = Path("/sys/fs/cgroup")
_JOIN = 'for group; do echo $$ > "$group/cgroup.procs" || exit 1; done'
_counter = itertools.count()


@dataclass
class Cage:
    """One or two control groups that hold a program and all its descendants.

    ``folders`` are the groups to join; ``memory`` and ``pids`` say which of them counts what.
    """

    version: int
    memory: Path
    pids: Path
    cpu: Path | None = None
    _seen_kills: int = field(default=0, init=False)
    _seen_cpu: float = field(default=0.0, init=False)

    @property
    def folders(self) -> tuple[Path, ...]:
        """The groups a process has to join, each once."""
        every = (self.memory, self.pids, self.cpu)
        return tuple(dict.fromkeys(folder for folder in every if folder is not None))

    def prepare(self, limits: Limits) -> None:
        """Set the limits for the next program and forget the last one."""
        if self.version == 2:
            (self.memory / "memory.max").write_text(str(limits.memory_bytes))
            with contextlib.suppress(OSError):
                (self.memory / "memory.swap.max").write_text("0")
            with contextlib.suppress(OSError):
                (self.memory / "memory.peak").write_text("0")
        else:
            # Memory and swap together may never be limited to less than memory alone.
            together = self.memory / "memory.memsw.limit_in_bytes"
            with contextlib.suppress(OSError):
                together.write_text("-1")
            (self.memory / "memory.limit_in_bytes").write_text(str(limits.memory_bytes))
            with contextlib.suppress(OSError):
                together.write_text(str(limits.memory_bytes))
            with contextlib.suppress(OSError):
                (self.memory / "memory.max_usage_in_bytes").write_text("0")
        (self.pids / "pids.max").write_text(str(limits.processes))
        self._seen_kills = self._kills()
        self._seen_cpu = self._cpu() or 0.0

    def cpu_seconds(self) -> float | None:
        """CPU time since ``prepare``, of the dead too; None where the kernel does not count it."""
        now = self._cpu()
        return None if now is None else now - self._seen_cpu

    def _cpu(self) -> float | None:
        if self.cpu is None:
            return None
        if self.version == 1:
            return int((self.cpu / "cpuacct.usage").read_text()) / 1e9
        key, _, value = (self.cpu / "cpu.stat").read_text().partition("\n")[0].partition(" ")
        return int(value) / 1e6 if key == "usage_usec" else None

    def peak(self) -> int:
        """Most bytes in use since ``prepare``; 0 where the kernel does not say."""
        name = "memory.peak" if self.version == 2 else "memory.max_usage_in_bytes"
        try:
            return int((self.memory / name).read_text())
        except (OSError, ValueError):
            return 0

    def out_of_memory(self) -> bool:
        """True when the kernel killed something for memory since ``prepare``."""
        return self._kills() > self._seen_kills

    def _kills(self) -> int:
        name = "memory.events" if self.version == 2 else "memory.oom_control"
        for line in (self.memory / name).read_text().splitlines():
            key, _, value = line.partition(" ")
            if key == "oom_kill":
                return int(value)
        return 0

    def members(self) -> list[int]:
        """Process ids inside."""
        found: set[int] = set()
        for folder in self.folders:
            with contextlib.suppress(OSError):
                found.update(map(int, (folder / "cgroup.procs").read_text().split()))
        return sorted(found)

    def empty(self, patience: float = 5.0) -> None:
        """Kill everything inside and wait until it is gone."""
        deadline = time.monotonic() + patience
        while members := self.members():
            for pid in members:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            if time.monotonic() > deadline:
                return
            time.sleep(0.002)

    def close(self) -> None:
        """Empty and remove the groups."""
        self.empty()
        for folder in self.folders:
            for _ in range(50):
                try:
                    folder.rmdir()
                    break
                except FileNotFoundError:
                    break
                except OSError:
                    # The kernel lets go of a group a moment after its last process.
                    time.sleep(0.01)


def make_cage(root: Path = _ROOT) -> Cage | None:
    """A new cage, or None where this machine does not let us make one that enforces memory."""
    name = f"mft-tui-{os.getpid()}-{next(_counter)}"
    try:
        if (root / "cgroup.controllers").is_file():
            return _version_2(root, name)
        return _version_1(root, name)
    except OSError:
        return None


def sweep_left_behind(root: Path = _ROOT) -> None:
    """Remove cages whose owner was killed before it could."""
    own = _own_group(root)
    version_1 = {root / kind for kind in ("memory", "pids", "cpuacct")}
    for parent in {*version_1, *_places(root, own)}:
        for folder in parent.glob("mft-tui-*-*"):
            owner = folder.name.split("-")[2]
            if owner.isdigit() and not Path(f"/proc/{owner}").exists():
                Cage(1, folder, folder).close()


def _own_group(root: Path) -> Path:
    for line in Path("/proc/self/cgroup").read_text().splitlines():
        number, _, path = line.split(":", 2)
        if number == "0":
            return root / path.lstrip("/")
    return root


def _version_2(root: Path, name: str) -> Cage | None:
    for parent in _places(root, _own_group(root)):
        controllers = set((parent / "cgroup.subtree_control").read_text().split())
        if {"memory", "pids"} <= controllers and os.access(parent, os.W_OK):
            folder = parent / name
            folder.mkdir()
            return _kept_if_it_enforces(Cage(2, folder, folder, folder))
    return None


def _places(root: Path, own: Path) -> tuple[Path, ...]:
    """Where a cage of version 2 may stand.

    A group that holds processes cannot have limited children, so beside ours, if that is allowed.
    """
    return (own.parent, own) if own != root else (root,)


def _version_1(root: Path, name: str) -> Cage | None:
    memory, pids, cpu = (root / kind / name for kind in ("memory", "pids", "cpuacct"))
    memory.mkdir()
    try:
        pids.mkdir()
    except OSError:
        memory.rmdir()
        raise
    try:
        cpu.mkdir()
    except OSError:
        return _kept_if_it_enforces(Cage(1, memory, pids))
    return _kept_if_it_enforces(Cage(1, memory, pids, cpu))


def _kept_if_it_enforces(cage: Cage) -> Cage | None:
    """The cage, if limits can be set and a process of ours may join: else it is removed."""
    try:
        cage.prepare(Limits(cpu_seconds=1, wall_seconds=1))
        joined = subprocess.run(
            ["/bin/sh", "-c", _JOIN, "sh", *map(str, cage.folders)],
            stderr=subprocess.DEVNULL,
            check=False,
        )
    except OSError:
        cage.close()
        return None
    if joined.returncode != 0:
        # A group may be ours to make and its parent's processes not ours to move.
        cage.close()
        return None
    return cage
