"""The supervisor's pen: the one thread that writes a run into the database.

It is a thread of its own because a database can make its writer wait (another writer, a hung
network file system) or refuse (full disk, read-only), and neither may hold up stopping a job or
noticing its end. What cannot be written now is kept and tried again; the event log and
``status.json`` hold everything meanwhile.
"""

import sqlite3
import sys
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

from runners.lifecycle.folders import RunFolder
from runners.lifecycle.ingest import BATCH, ingest_batch
from runners.lifecycle.processes import Machine, ProcessId

if TYPE_CHECKING:
    from db import RunWriter, Store

HEARTBEAT_SECONDS = 5.0
FASTEST, SLOWEST = 0.1, 0.5
"""Seconds between looks at the event log: the first while events come, the second while none do."""


@dataclass(frozen=True)
class Change:
    """A change of status that is on its way into the database."""

    to: str
    expected: frozenset[str]
    fields: dict[str, object] = field(default_factory=dict)


class Recorder:
    """Writes one run's events, heartbeat and status changes, in that order, on a thread.

    ``open_store`` is called on the thread, and again after trouble. A status change is written once
    every event before it is in, so that a run that is shown as ended is shown whole.
    """

    def __init__(
        self,
        folder: RunFolder,
        database: Path,
        me: ProcessId,
        machine: Machine,
        *,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._folder = folder
        self._database = database
        self._me = me
        self._machine = machine
        self._clock = clock
        self._changes: deque[Change] = deque()
        self._wake = threading.Event()
        self._closing = threading.Event()
        self._trouble = ""
        self._last_heartbeat = 0.0
        self._last_status = ""
        self._thread = threading.Thread(target=self._run, name="recorder", daemon=True)

    def start(self) -> None:
        """Begin to write."""
        self._thread.start()

    def change(self, to: str, expected: frozenset[str], **fields: object) -> None:
        """Have the status changed once the events so far are in."""
        self._changes.append(Change(to, expected, fields))
        self._wake.set()

    def close(self, patience: float) -> bool:
        """Write what is left, for at most ``patience`` seconds; True when all of it is written."""
        self._closing.set()
        self._wake.set()
        self._thread.join(patience)
        return not self._thread.is_alive() and not self._changes

    def _run(self) -> None:
        pause = FASTEST
        while True:
            closing = self._closing.is_set()
            try:
                if self._write_while_it_works():
                    return
            except Exception as error:  # noqa: BLE001 - whatever the store raises, the job goes on
                self._told(error)
                pause = 1.0
                if closing:
                    time.sleep(0.5)
                    continue
            else:
                continue
            self._wake.wait(pause)
            self._wake.clear()

    def _write_while_it_works(self) -> bool:
        """Open the store and write; True when all is written at closing time, False when another
        file has taken the store's place (it was made anew)."""
        from db import open_store

        with open_store(self._database) as store:
            opened = self._file()
            writer = store.writer(self._folder.run_id)
            pause = FASTEST
            while True:
                closing = self._closing.is_set()
                busy = self._write(store, writer)
                if self._trouble:
                    self._say(f"the database takes writes again: {self._database}")
                    self._trouble = ""
                if closing and not busy and not self._changes:
                    return True
                if self._file() not in {opened, None}:
                    return False
                pause = FASTEST if busy else min(SLOWEST, pause * 1.3)
                self._wake.wait(0 if closing else pause)
                self._wake.clear()

    def _file(self) -> tuple[int, int] | None:
        """Which file the store is now; None while there is none."""
        try:
            found = self._database.stat()
        except OSError:
            return None
        return found.st_dev, found.st_ino

    def _write(self, store: "Store", writer: "RunWriter") -> bool:
        """One round; True when events came, so that more may be there already.

        The changes are counted first: what the log held when they were made is in the batch, unless
        the batch is full. To wait for a silent log instead would be to wait for a busy job's end.
        """
        pending = len(self._changes)
        taken = ingest_batch(writer, self._folder)
        if taken < BATCH:
            for _ in range(pending):
                self._apply(store, self._changes[0])
                self._changes.popleft()
        if self._clock() - self._last_heartbeat >= HEARTBEAT_SECONDS:
            self._beat(store)
        return taken > 0

    def _apply(self, store: "Store", change: Change) -> None:
        store.transition(self._folder.run_id, change.to, expected=change.expected, **change.fields)
        self._last_status = change.to

    def _beat(self, store: "Store") -> None:
        now = self._clock()
        run_id = self._folder.run_id
        store.update_run(run_id, heartbeat_at=now)
        self._last_heartbeat = now
        # Somebody who could not see this process, or saw a stopped clock, took it for dead.
        if self._last_status in {"running", "stopping"}:
            store.transition(
                run_id,
                self._last_status,
                expected={"crashed"},
                message="",
                ended_at=None,
                exit_code=None,
                host=self._machine.host,
                boot_id=self._machine.boot_id,
                supervisor_pid=self._me.pid,
                supervisor_started=self._me.started,
            )

    def _told(self, error: Exception) -> None:
        """Say each kind of trouble once, not at every try."""
        text = str(error) or type(error).__name__
        kind = type(error).__name__
        if kind != self._trouble:
            self._trouble = kind
            known = isinstance(error, sqlite3.Error) or hasattr(error, "what")
            self._say(
                f"{'the database' if known else kind} cannot be written now, the job goes on and "
                f"its events are taken in later: {text}"
            )

    def _say(self, text: str) -> None:
        stamp = time.strftime("%Y-%m-%d %H:%M:%S")
        print(f"{stamp} {text}", file=sys.stderr, flush=True)
