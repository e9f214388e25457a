"""Many processes share one store and are killed at any moment: nothing is lost or doubled, and
nobody is told that the database is locked."""

import multiprocessing
import random
import sqlite3
import time
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import db
from db.engine import Database
from tests.db import crash_worker

# Forked from the test, which has everything loaded: a process is at work when it is shot, and not
# still importing. No store is open where they are forked.
_forks = multiprocessing.get_context("fork")


def _start(told: Path, *call: object) -> BaseProcess:
    process = _forks.Process(target=crash_worker.told_to, args=(told, *call), daemon=True)
    process.start()
    return process


def _shoot_at_random(folder: Path, *, writers: int, readers: int, seconds: float) -> int:
    """Keep so many processes at work for a while and kill -9 one at a time; return the kills."""
    path, told = folder / "mft.db", folder / "told.txt"
    logs = folder / "logs"
    logs.mkdir(parents=True)
    told.touch()
    rng = random.Random(1)
    calls: list[tuple[object, ...]] = [
        *((crash_worker.write, path, logs, number) for number in range(writers)),
        *((crash_worker.read, path) for _ in range(readers)),
    ]
    # The file is not there yet: the first processes also race to make it.
    at_work = [_start(told, *call) for call in calls]
    kills = 0
    until = time.monotonic() + seconds
    try:
        while time.monotonic() < until:
            time.sleep(rng.uniform(0.05, 0.6))
            place = rng.randrange(len(calls))
            assert at_work[place].is_alive(), told.read_text()
            at_work[place].kill()
            at_work[place].join()
            kills += 1
            at_work[place] = _start(told, *calls[place])
    finally:
        for process in at_work:
            process.kill()
            process.join()
    return kills


def _check_nothing_lost(folder: Path) -> int:
    """Take in what the dead left behind, twice, and compare store and logs; return the runs."""
    logs = {log.stem: log for log in (folder / "logs").iterdir()}
    with db.open_store(folder / "mft.db") as store:
        assert store.check() == []
        runs = [row.run for row in store.list_runs(db.RunQuery(limit=-1)).rows]
        assert {run.id for run in runs} <= set(logs)
        for run in runs:
            for _ in range(2):
                crash_worker.ingest(store, run.id, logs[run.id])
            lines = logs[run.id].read_bytes().rpartition(b"\n")[0].split()
            numbers = [int(line) for line in lines]
            assert [notice.text for notice in store.notices(run.id)] == [
                f"event {number}" for number in numbers
            ]
            assert store.series(run.id, "loss") == db.Series(
                "loss",
                tuple(db.MetricPoint(n, 1.0 / n, float(n)) for n in numbers),
                decimated=False,
            )
            assert store.get_run(run.id).events_seq == len(numbers)
            if run.status == "finished":
                assert len(numbers) == crash_worker.EVENTS_A_RUN
        assert store.check() == []
    return len(runs)


def test_processes_killed_at_random_lose_and_double_no_event(tmp_path: Path) -> None:
    kills = _shoot_at_random(tmp_path / "s", writers=3, readers=1, seconds=9)
    assert (tmp_path / "s" / "told.txt").read_text() == ""
    assert kills >= 5
    assert _check_nothing_lost(tmp_path / "s") > 0


@pytest.mark.full
def test_eight_writers_and_two_readers_survive_two_minutes_of_kills(tmp_path: Path) -> None:
    kills = _shoot_at_random(tmp_path / "s", writers=8, readers=2, seconds=120)
    assert (tmp_path / "s" / "told.txt").read_text() == ""
    assert kills >= 60
    runs = _check_nothing_lost(tmp_path / "s")
    print(f"{kills} kills, {runs} runs, nothing lost, no message")


def test_many_threads_of_one_process_share_a_store(store: db.Store) -> None:
    ids = [f"1{number:03d}" for number in range(24)]

    def one(run_id: str) -> int:
        store.insert_run(db.RunRecord(id=run_id, kind="train"))
        writer = store.writer(run_id)
        for step in range(1, 6):
            writer.metrics(step, {"loss": float(step), f"key-{run_id}": 1.0}, at=1.0)
            writer.commit(events_offset=step, events_seq=step)
            store.list_runs()
        return len(store.series(run_id, "loss").points)

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(one, ids)) == [5] * len(ids)
    assert store.check() == []


def test_of_many_that_try_the_same_transition_one_wins(store: db.Store, new_run) -> None:
    run = new_run()
    with ThreadPoolExecutor(8) as pool:
        won = list(
            pool.map(
                lambda pid: store.transition(run.id, "running", expected={"queued"}, job_pid=pid),
                range(16),
            )
        )
    assert won.count(True) == 1
    assert store.get_run(run.id).job_pid == won.index(True)


def test_many_processes_may_open_a_store_that_is_not_there_yet(path: Path, tmp_path: Path) -> None:
    told = tmp_path / "told.txt"
    processes = [_start(told, crash_worker.open_once, path) for _ in range(8)]
    for process in processes:
        process.join()
    assert [process.exitcode for process in processes] == [0] * 8, told.read_text()
    with db.open_store(path) as store:
        assert store.check() == []


def test_a_store_that_stays_locked_is_told_as_busy_and_not_as_locked(path: Path) -> None:
    db.open_store(path).close()
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    database = Database(path, patience=0.3, busy_timeout=0.1)
    with pytest.raises(db.StoreBusyError, match="kept the store busy") as told, database.writing():
        pass
    assert "locked" not in told.value.what
    holder.execute("ROLLBACK")
    with database.writing():
        pass
    database.close()
    holder.close()
