"""CPUs and memory that this process may really use: the machine's, less the container's limits.

A container is told how many cores and how much memory the machine has, not how much it was given;
workers and offloading sized by the machine's numbers end in throttling or in the OOM killer. Limits
come from control groups (v1 and v2, the kernel's documentation "cgroup-v1/" and "cgroup-v2.rst")
and from the scheduling affinity.
"""

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import psutil


@dataclass(frozen=True)
class Cpus:
    """``usable`` cores: the least of what the machine has, the affinity and the quota allow.

    ``quota`` is the container's share in cores (may be a fraction), None without a limit.
    """

    model: str | None
    logical: int
    physical: int | None
    affinity: int
    quota: float | None

    @property
    def usable(self) -> int:
        """Whole cores to plan with; at least 1."""
        fewest = min(self.logical, self.affinity)
        return max(1, min(fewest, int(self.quota))) if self.quota is not None else fewest


@dataclass(frozen=True)
class HostMemory:
    """Bytes of main memory. ``limit`` is the container's, None without one."""

    total: int
    available: int
    limit: int | None

    @property
    def usable(self) -> int:
        """The machine's memory or the container's limit, whichever is less."""
        return self.total if self.limit is None else min(self.total, self.limit)


def detect_cpus(
    root: Path = Path("/"),
    *,
    logical: int | None = None,
    affinity: Callable[[], int] = lambda: len(os.sched_getaffinity(0)),
) -> Cpus:
    """The CPUs; ``root`` is where ``proc`` and ``sys`` are found."""
    logical = logical or os.cpu_count() or 1
    return Cpus(
        model=_cpu_model(root / "proc/cpuinfo"),
        logical=logical,
        physical=psutil.cpu_count(logical=False),
        affinity=affinity(),
        quota=_cpu_quota(root),
    )


def detect_memory(
    root: Path = Path("/"),
    *,
    machine: Callable[[], tuple[int, int]] = lambda: (
        psutil.virtual_memory().total,
        psutil.virtual_memory().available,
    ),
) -> HostMemory:
    """Main memory; ``machine`` tells the machine's total and available bytes."""
    total, available = machine()
    tightest: int | None = None
    for limit, used in _memory_groups(root):
        if limit >= total:  # v1 spells "no limit" as a number near 2^63
            continue
        tightest = limit if tightest is None else min(tightest, limit)
        available = min(available, max(0, limit - used))
    return HostMemory(total=total, available=available, limit=tightest)


def _cpu_model(cpuinfo: Path) -> str | None:
    for line in (_read(cpuinfo) or "").splitlines():
        key, _, value = line.partition(":")
        if key.strip() == "model name":
            return value.strip()
    return None


def _cpu_quota(root: Path) -> float | None:
    shares = []
    for group in _groups(root, "cpu"):
        if text := _read(group / "cpu.max"):
            quota, _, period = text.partition(" ")
            shares.append(_share(quota, period or "100000"))
        if text := _read(group / "cpu.cfs_quota_us"):
            shares.append(_share(text, _read(group / "cpu.cfs_period_us") or "100000"))
    limits = [share for share in shares if share is not None]
    return min(limits) if limits else None


def _share(quota: str, period: str) -> float | None:
    microseconds, every = _number(quota), _number(period)
    if microseconds is None or not every or microseconds <= 0:  # "max", or -1
        return None
    return microseconds / every


def _memory_groups(root: Path) -> Iterator[tuple[int, int]]:
    """Limit and use, less what the kernel gives back at once, of each group we are in."""
    for group in _groups(root, "memory"):
        for limit_name, use_name, cache_name in (
            ("memory.max", "memory.current", "inactive_file"),
            ("memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file"),
        ):
            limit = _number(_read(group / limit_name))
            if limit is None:
                continue
            used = _number(_read(group / use_name)) or 0
            yield limit, max(0, used - _statistic(group / "memory.stat", cache_name))


def _statistic(file: Path, name: str) -> int:
    for line in (_read(file) or "").splitlines():
        key, _, value = line.partition(" ")
        if key == name:
            return _number(value) or 0
    return 0


def _groups(root: Path, controller: str) -> Iterator[Path]:
    """Folders of the control groups we are in, from our own up to the top, v1 and v2.

    A limit holds for everything below it, so each one counts. Inside a container the path that
    /proc/self/cgroup tells may be the host's and not exist: then only the top is there, and it is
    the container's own.
    """
    for line in (_read(root / "proc/self/cgroup") or "").splitlines():
        _, controllers, path = [*line.split(":", 2), "", ""][:3]
        if controllers == "":
            mounts = [root / "sys/fs/cgroup", root / "sys/fs/cgroup/unified"]
        elif controller in controllers.split(","):
            mounts = [root / "sys/fs/cgroup" / name for name in {controller, controllers}]
        else:
            continue
        inner = Path(path.lstrip("/"))
        if ".." in inner.parts:
            inner = Path()
        for mount in mounts:
            for folder in (inner, *inner.parents):
                if (mount / folder).is_dir():
                    yield mount / folder


def _number(text: str | None) -> int | None:
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def _read(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None
