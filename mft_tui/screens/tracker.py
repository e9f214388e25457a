"""The app's way to what is remembered: the store, opened late, used in one lane.

The database libraries take half a second to import, so nothing of them is loaded before the first
paint; ``Tracker.ask`` opens the store when it is first needed. Screens say what they want as a
function of the store; it runs in the lane, and its result is awaited.
"""

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, TypeVar

from mft_tui.widgets.lanes import Lane
from runners.lifecycle.folders import StateFolder

if TYPE_CHECKING:
    from db import Store

T = TypeVar("T")


class Tracker:
    """One connection to the store, in one lane."""

    def __init__(self, state: StateFolder, lane: Lane) -> None:
        self.state = state
        self._lane = lane
        self._store: Store | None = None

    async def ask(self, question: "Callable[[Store], T]") -> T:
        """The answer to ``question``. Raises what it raises: ``db.errors.StoreError`` mostly."""
        return await self._lane.call(self._answer, question)

    def _answer(self, question: "Callable[[Store], T]") -> T:
        if self._store is None:
            from db import open_store

            self.state.root.mkdir(parents=True, exist_ok=True)
            self._store = open_store(self.state.database)
        return question(self._store)

    def version(self) -> tuple[float, int, float, int]:
        """Something that changes when anybody writes to the store; costs two ``stat`` calls."""
        found: list[float] = []
        for path in (self.state.database, self.state.database.with_name("mft.db-wal")):
            try:
                status = os.stat(path)  # noqa: PTH116 - the cheapest call there is, once a second
                found += [status.st_mtime, status.st_size]
            except FileNotFoundError:
                found += [0.0, 0]
        return found[0], int(found[1]), found[2], int(found[3])
