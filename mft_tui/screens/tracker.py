"""The app's way to what is remembered: the store, opened late, used in one lane.

The database libraries take half a second to import, so nothing of them is loaded before the first
paint; ``Tracker.ask`` opens the store when it is first needed. Screens say what they want as a
function of the store; it runs in the lane, and its result is awaited. What it raises is told by the
worker that asked: see ``mft_tui.widgets.guard``.
"""

import os
import threading
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mft_tui.widgets.lanes import Lane
from runners.lifecycle.folders import StateFolder

if TYPE_CHECKING:
    from db import Store

T = TypeVar("T")


class SharedStore:
    """The app's one store, opened by whoever needs it first.

    One, because POSIX locks belong to a process and not to a file handle: when anything in this
    process opens the database file a second time and closes it, the locks of the first connection
    are gone, the last other process removes the write-ahead log, and what this one writes is lost.
    """

    def __init__(self, state: StateFolder) -> None:
        self.state = state
        self._store: Store | None = None
        self._lock = threading.Lock()

    def get(self) -> "Store":
        """The open store. Raises ``db.errors.StoreError`` when it cannot be opened."""
        with self._lock:
            if self._store is None:
                from db import open_store

                # What tells a silent run needs it, on the event loop; loaded here, off it.
                from runners.lifecycle import liveness as _  # noqa: F401

                self.state.root.mkdir(parents=True, exist_ok=True)
                self._store = open_store(self.state.database)
            return self._store


class Tracker:
    """The store, asked in one lane."""

    def __init__(self, shared: SharedStore, lane: Lane) -> None:
        self._shared = shared
        self._lane = lane

    async def ask(self, question: "Callable[[Store], T]") -> T:
        """The answer to ``question``. Raises what it raises: ``db.errors.StoreError`` mostly."""
        return await self._lane.call(lambda: question(self._shared.get()))

    def version(self) -> tuple[float, int, float, int]:
        """Something that changes when anybody writes to the store; costs two ``stat`` calls."""
        found: list[float] = []
        database = self._shared.state.database
        for path in (database, database.with_name("mft.db-wal")):
            try:
                status = os.stat(path)  # noqa: PTH116 - the cheapest call there is, once a second
                found += [status.st_mtime, status.st_size]
            except FileNotFoundError:
                found += [0.0, 0]
        return found[0], int(found[1]), found[2], int(found[3])
