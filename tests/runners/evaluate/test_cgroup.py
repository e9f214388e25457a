"""Control groups of both versions: what is written, what is read, what is swept up.

The machine has one version at most, so the folders of the other are laid out by the test, as the
kernel's documents describe them (admin-guide/cgroup-v2, cgroup-v1/memory).
"""

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from runners.evaluate.sandbox import cgroup
from runners.evaluate.sandbox.base import MIB, Limits
from runners.evaluate.sandbox.cgroup import Cage, make_cage, sweep_left_behind

LIMITS = Limits(1.0, 1.0, memory_bytes=64 * MIB, processes=12)


@pytest.fixture
def unified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A version 2 tree in which a session's group is delegated, and ours lies in it."""
    session = tmp_path / "user.slice" / "session"
    (session / "ours").mkdir(parents=True)
    (tmp_path / "cgroup.controllers").write_text("cpu memory pids\n")
    for folder in (session, session / "ours"):
        (folder / "cgroup.subtree_control").write_text("memory pids\n" if folder == session else "")
    monkeypatch.setattr(cgroup, "_own_group", lambda _: session / "ours")
    # The kernel fills a new group with its files.
    make_folder: Callable[[Path], None] = Path.mkdir

    def mkdir(self: Path, *rest: object, **named: object) -> None:
        make_folder(self)
        if self.name.startswith("mft-tui-"):
            (self / "memory.events").write_text("low 0\nhigh 0\nmax 0\noom 0\noom_kill 0\n")
            (self / "cpu.stat").write_text("usage_usec 1500000\nuser_usec 1000000\n")
            (self / "cgroup.procs").write_text("")

    monkeypatch.setattr(Path, "mkdir", mkdir)
    return tmp_path


def removed(folder: Path) -> None:
    for file in folder.iterdir():
        file.unlink()
    folder.rmdir()


def test_a_version_2_cage_stands_beside_our_own_group_and_limits_memory_swap_and_processes(
    unified: Path,
) -> None:
    cage = make_cage(unified)

    assert cage is not None
    assert (cage.version, cage.memory.parent.name) == (2, "session")
    cage.prepare(LIMITS)
    assert (cage.memory / "memory.max").read_text() == str(64 * MIB)
    assert (cage.memory / "memory.swap.max").read_text() == "0"
    assert (cage.memory / "pids.max").read_text() == "12"


def test_a_version_2_cage_tells_cpu_time_peak_and_kills_since_it_was_prepared(
    unified: Path,
) -> None:
    cage = make_cage(unified)
    assert cage is not None
    cage.prepare(LIMITS)
    assert not cage.out_of_memory()

    (cage.memory / "cpu.stat").write_text("usage_usec 4000000\nuser_usec 1\n")
    (cage.memory / "memory.peak").write_text("123\n")
    (cage.memory / "memory.events").write_text("oom 1\noom_kill 2\n")

    assert cage.cpu_seconds() == pytest.approx(2.5)
    assert cage.peak() == 123
    assert cage.out_of_memory()
    cage.prepare(LIMITS)
    assert not cage.out_of_memory()


def test_a_cage_that_our_processes_may_not_join_is_not_used(
    unified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> "subprocess.CompletedProcess[bytes]":
        return subprocess.CompletedProcess([], 1)

    monkeypatch.setattr(subprocess, "run", refuse)

    assert make_cage(unified) is None


def test_without_delegated_controllers_there_is_no_cage(unified: Path) -> None:
    (unified / "user.slice" / "session" / "cgroup.subtree_control").write_text("cpu\n")

    assert make_cage(unified) is None


def test_cages_of_dead_owners_are_swept_up_where_version_2_puts_them(
    unified: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    session = unified / "user.slice" / "session"
    gone = subprocess.Popen(["true"])
    gone.wait()
    for owner in (gone.pid, os.getpid()):
        (session / f"mft-tui-{owner}-0").mkdir()
    monkeypatch.setattr(Cage, "close", lambda self: removed(self.memory))

    sweep_left_behind(unified)

    assert [p.name for p in session.glob("mft-tui-*")] == [f"mft-tui-{os.getpid()}-0"]


def test_a_version_1_cage_limits_swap_together_with_memory(tmp_path: Path) -> None:
    (tmp_path / "memory.oom_control").write_text("oom_kill 0\n")
    (tmp_path / "cpuacct.usage").write_text("0\n")
    (tmp_path / "memory.memsw.limit_in_bytes").write_text("9223372036854771712\n")

    Cage(1, tmp_path, tmp_path, tmp_path).prepare(LIMITS)

    assert (tmp_path / "memory.limit_in_bytes").read_text() == str(64 * MIB)
    assert (tmp_path / "memory.memsw.limit_in_bytes").read_text() == str(64 * MIB)
