"""Many processes share one store and are killed at any moment: nothing is lost or doubled, and
nobody is told that the database is locked.

A writer makes runs without end: each appends numbered lines to a log of its own, as a job does, and
copies them into the store in batches, as a supervisor does. A reader asks the questions the app
asks. What a person would see of them goes to a file.
"""

import multiprocessing
import os
import random
import sqlite3
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

import db
from db.engine import Database
from db.opening import open_store

EVENTS_A_RUN = 300

# Forked from the test, which has everything loaded: a process is at work when it is shot, and not
# still importing. No store is open where they are forked.
_forks = multiprocessing.get_context("fork")


def _ingest(store: db.Store, run_id: str, log: Path) -> None:
    """Bring the store up to the log: one notice and one metric value a line."""
    writer = store.writer(run_id)
    with log.open("rb") as file:
        file.seek(writer.events_offset)
        offset, seq = writer.events_offset, writer.events_seq
        for line in file:
            if not line.endswith(b"\n"):
                break
            offset += len(line)
            seq = int(line)
            writer.metrics(seq, {"loss": 1.0 / seq, "lr": 2.0 * seq}, at=float(seq))
            writer.notice("info", f"event {seq}", at=float(seq))
            if seq % 20 == 0:
                writer.commit(events_offset=offset, events_seq=seq)
        writer.commit(events_offset=offset, events_seq=seq)


def _append(log: Path, count: int) -> int:
    """Add lines to a log, after cutting a torn one; return the last number."""
    with log.open("ab+") as file:
        file.seek(0)
        whole = file.read().rpartition(b"\n")
        file.truncate(len(whole[0] + whole[1]))
        last = int(whole[0].rpartition(b"\n")[2] or 0)
        for number in range(last + 1, min(last + count, EVENTS_A_RUN) + 1):
            file.write(b"%d\n" % number)
            last = number
    return last


def _told_to(told: Path, work: Callable[..., None], *arguments: object) -> None:
    """Do ``work`` with stdout and stderr going to the end of a file."""
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    work(*arguments)


def _open_once(path: Path) -> None:
    """Open a store and close it."""
    open_store(path).close()


def _write(path: Path, folder: Path, seed: int) -> None:
    """Make runs until somebody ends it."""
    rng = random.Random(seed)
    with open_store(path) as store:
        while True:
            log = folder / f"{db.new_run_id()}.log"
            log.touch()
            store.insert_run(db.RunRecord(id=log.stem, kind="train", created_at=time.time()))
            store.transition(log.stem, "running", expected={"queued"})
            while _append(log, rng.randrange(1, 60)) < EVENTS_A_RUN:
                _ingest(store, log.stem, log)
                store.update_run(log.stem, heartbeat_at=time.time())
            _ingest(store, log.stem, log)
            store.transition(log.stem, "finished", expected={"running"})


def _read(path: Path) -> None:
    """Ask for lists, curves and notices until somebody ends it."""
    with open_store(path) as store:
        while True:
            # A metric that no run has yet is refused as unknown.
            query = db.RunQuery(filter="kind:train", sort="-created_at")
            if "loss" in store.metric_keys():
                query = db.RunQuery(filter="loss<0.5 OR kind:train", sort="-loss")
            page = store.list_runs(query)
            for row in page.rows[:5]:
                store.series(row.run.id, "loss", 50)
                store.notices(row.run.id)
            time.sleep(0.01)


def _start(told: Path, *call: object) -> BaseProcess:
    process = _forks.Process(target=_told_to, args=(told, *call), daemon=True)
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
        *((_write, path, logs, number) for number in range(writers)),
        *((_read, path) for _ in range(readers)),
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
                _ingest(store, run.id, logs[run.id])
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
                assert len(numbers) == EVENTS_A_RUN
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
    processes = [_start(told, _open_once, path) for _ in range(8)]
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
