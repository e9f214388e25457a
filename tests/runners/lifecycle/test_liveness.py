"""Who counts as dead, and who is only silent: runs on this machine and on others."""

import time
from dataclasses import replace

import pytest

from db import RunRecord
from runners.lifecycle.liveness import STALE_SECONDS, is_dead, refresh, shown_status
from runners.lifecycle.processes import Machine
from tests.runners.lifecycle.conftest import Bench

NOW = 10_000.0
HERE = Machine.here()
GONE = 2**22 + 1
"""A pid that Linux gives to nobody."""


@pytest.fixture
def run() -> RunRecord:
    return RunRecord(
        id="1abc",
        kind="train",
        status="running",
        created_at=NOW - 500,
        heartbeat_at=NOW - 1,
        host=HERE.host,
        boot_id=HERE.boot_id,
        supervisor_pid=GONE,
        supervisor_started=1.0,
    )


def test_on_this_machine_a_run_without_its_supervisor_is_dead_at_once(run: RunRecord) -> None:
    assert is_dead(run, HERE, NOW)
    assert shown_status(run, HERE, NOW) == "running"


def test_a_run_from_before_this_machine_was_started_anew_is_dead(run: RunRecord) -> None:
    assert is_dead(replace(run, boot_id="another", supervisor_pid=1), HERE, NOW)


@pytest.mark.parametrize(("silence", "shown"), [(STALE_SECONDS - 1, "running"), (61.0, "stale")])
def test_a_silent_run_on_another_machine_is_stale_and_never_dead(
    run: RunRecord, silence: float, shown: str
) -> None:
    there = replace(run, host="elsewhere", boot_id="theirs", heartbeat_at=NOW - silence)
    assert not is_dead(there, HERE, NOW)
    assert shown_status(there, HERE, NOW) == shown


def test_an_ended_run_is_neither(run: RunRecord) -> None:
    ended = replace(run, status="finished", host="elsewhere", heartbeat_at=None)
    assert not is_dead(ended, HERE, NOW)
    assert shown_status(ended, HERE, NOW) == "finished"


def test_a_launcher_gets_a_minute_to_start_a_supervisor(run: RunRecord) -> None:
    queued = replace(run, status="queued", supervisor_pid=None, heartbeat_at=None)
    assert not is_dead(replace(queued, created_at=NOW - 59), HERE, NOW)
    assert is_dead(replace(queued, created_at=NOW - 61), HERE, NOW)


def test_looking_at_runs_leaves_a_stale_one_alone_and_a_read_only_store_too(
    bench: Bench, run: RunRecord
) -> None:
    from db import open_store

    bench.store.insert_run(replace(run, id="1here", folder=str(bench.state.runs / "1here")))
    far = replace(run, id="1there", host="elsewhere", heartbeat_at=time.time() - 999)
    bench.store.insert_run(far)
    with open_store(bench.state.database, read_only=True) as reader:
        assert refresh(reader) == []
    assert bench.store.get_run("1here").status == "running"
    assert refresh(bench.store) == ["1here"]
    assert bench.store.get_run("1here").status == "crashed"
    assert bench.store.get_run("1there").status == "running"
