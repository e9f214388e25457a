"""How many workers there are, on which cores, and how long they wait."""

import subprocess
import sys
import time

import pytest

from runners.evaluate.pool import narrow, worker_count
from runners.evaluate.sandbox.base import MIB, Limits
from runners.evaluate.sandbox.process import Usage, run_process
from runners.evaluate.sandbox.watchdog import tree_usage
from runners.hardware import host


def test_workers_are_as_many_as_cores_and_memory_allow() -> None:
    assert worker_count(3, cores=1, free=0) == 3
    assert worker_count(None, cores=6, free=64 << 30) == 6
    assert worker_count(None, cores=64, free=5 << 30) == 4
    assert worker_count(None, cores=2, free=100 * MIB) == 1


def test_a_containers_share_of_the_machine_limits_the_workers(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    small = host.Cpus(model=None, logical=64, physical=32, affinity=64, quota=2.5)
    monkeypatch.setattr("runners.evaluate.pool.detect_cpus", lambda: small)
    monkeypatch.setattr(
        "runners.evaluate.pool.detect_memory",
        lambda: host.HostMemory(total=512 << 30, available=64 << 30, limit=64 << 30),
    )

    assert worker_count(None) == 2


def test_on_a_large_machine_programs_see_a_few_cores_and_all_cores_are_used() -> None:
    cores = list(range(128))
    seen = [narrow(worker, cores) for worker in range(128)]

    assert {len(few) for few in seen} == {8}
    assert set().union(*seen) == set(cores)
    assert narrow(1, [0, 5]) == {0, 5}


def waits(code: str, limits: Limits) -> tuple[str, float]:
    begin = time.monotonic()
    outcome = run_process(
        [sys.executable, "-S", "-c", code],
        limits,
        keep_stdout=100,
        keep_stderr=100,
        stdin=subprocess.DEVNULL,
        watch=tree_usage,
    )
    return outcome.ended, time.monotonic() - begin


def test_what_computes_is_waited_for_past_the_wall_limit_and_what_sleeps_is_not() -> None:
    # Past the limit by the clock, and not by much: how fast it computes is the machine's affair.
    computes = "import time\nend = time.monotonic() + 3.3\nwhile time.monotonic() < end: pass"
    limits = Limits(cpu_seconds=30.0, wall_seconds=3.0)

    assert waits(computes, limits)[0] == "exited"
    ended, seconds = waits("import time; time.sleep(60)", limits)
    assert ended == "timeout"
    assert 3 <= seconds < 20


def test_what_computes_for_ever_is_not_waited_for_for_ever() -> None:
    ended, seconds = waits("while True: pass", Limits(cpu_seconds=60.0, wall_seconds=0.5))

    assert ended == "timeout"
    assert seconds < 10


def test_a_watcher_that_sees_nothing_gives_no_more_time() -> None:
    outcome = run_process(
        [sys.executable, "-S", "-c", "while True: pass"],
        Limits(cpu_seconds=60.0, wall_seconds=0.5),
        keep_stdout=100,
        keep_stderr=100,
        watch=lambda _: Usage(0, 0, 0.0),
    )

    assert outcome.ended == "timeout"
    assert outcome.wall_seconds < 2
