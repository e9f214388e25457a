"""A process of the kill -9 test: a job that appends events, and a supervisor that takes them in.

A writer makes runs without end: each appends numbered lines to a log of its own and copies them
into the store in batches. A reader asks the questions the app asks. What a person would see of
them goes to a file.
"""

import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import db
from db.opening import open_store

EVENTS_A_RUN = 300


def ingest(store: db.Store, run_id: str, log: Path) -> None:
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


def append(log: Path, count: int) -> int:
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


def told_to(told: Path, work: Callable[..., None], *arguments: object) -> None:
    """Do ``work`` with stdout and stderr going to the end of a file."""
    file = os.open(told, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.dup2(file, 1)
    os.dup2(file, 2)
    work(*arguments)


def open_once(path: Path) -> None:
    """Open a store and close it."""
    open_store(path).close()


def write(path: Path, folder: Path, seed: int) -> None:
    """Make runs until somebody ends it."""
    rng = random.Random(seed)
    with open_store(path) as store:
        while True:
            log = folder / f"{db.new_run_id()}.log"
            log.touch()
            store.insert_run(db.RunRecord(id=log.stem, kind="train", created_at=time.time()))
            store.transition(log.stem, "running", expected={"queued"})
            while append(log, rng.randrange(1, 60)) < EVENTS_A_RUN:
                ingest(store, log.stem, log)
                store.update_run(log.stem, heartbeat_at=time.time())
            ingest(store, log.stem, log)
            store.transition(log.stem, "finished", expected={"running"})


def read(path: Path) -> None:
    """Ask for lists, curves and notices until somebody ends it."""
    with open_store(path) as store:
        while True:
            page = store.list_runs(db.RunQuery(filter="loss<0.5 OR kind:train", sort="-loss"))
            for row in page.rows[:5]:
                store.series(row.run.id, "loss", 50)
                store.notices(row.run.id)
            time.sleep(0.01)
