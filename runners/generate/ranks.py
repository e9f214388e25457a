"""Data parallelism: several ranks, each with its own copy of the model, one pool of questions.

Ranks are started by accelerate's launcher. They share the pool through one counter in the process
group's store, so a fast rank simply takes more, and no question is taken twice.
"""

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Ranks:
    """This process among its ranks; alone when no launcher started it."""

    rank: int = 0
    local_rank: int = 0
    count: int = 1
    _state: Any = field(default=None, repr=False)

    @classmethod
    def join(cls, *, use_cpu: bool) -> "Ranks":
        """Join the process group that the launcher describes, if one did."""
        if int(os.environ.get("WORLD_SIZE", "1")) == 1:
            return cls()
        from accelerate import PartialState

        state = PartialState(cpu=use_cpu, **({"backend": "gloo"} if use_cpu else {}))
        return cls(state.process_index, state.local_process_index, state.num_processes, state)

    @property
    def leader(self) -> bool:
        """Whether this rank tells the story and writes the files that are made at the end."""
        return self.rank == 0

    def claim(self) -> Callable[[int], int] | None:
        """The shared counter of the pool; None when there is only one rank."""
        if self.count == 1:
            return None
        store = self._store()
        return lambda number: int(store.add("mft-claimed", number)) - number

    def wait(self) -> None:
        """Until every rank is here."""
        if self._state is not None:
            self._state.wait_for_everyone()

    def finish(self, meanwhile: Callable[[], None]) -> None:
        """Say that this rank is done. The leader calls ``meanwhile`` until all others are, too."""
        if self.count == 1:
            return
        store = self._store()
        store.add("mft-finished", 1)
        while self.leader and int(store.add("mft-finished", 0)) < self.count:
            meanwhile()
            time.sleep(0.2)
        # The leader holds the store: it leaves last, or the others' requests would fail.
        self.wait()

    def _store(self) -> Any:
        from torch.distributed import distributed_c10d

        return distributed_c10d._get_default_store()
