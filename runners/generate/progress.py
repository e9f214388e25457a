"""What the generation job tells while it runs, and the task files it writes as tasks complete."""

import time
from collections.abc import Callable, Iterable
from pathlib import Path

from runners.generate.engine import Completion
from runners.generate.ledger import Ledger, generations_path, write_atomically
from runners.generate.plan import Plan
from runners.lifecycle.events import EventWriter

_INTERVAL = 1.0


class Progress:
    """Follows the ledger for the leader: events about once a second, task files when complete."""

    def __init__(
        self,
        plan: Plan,
        ledger: Ledger,
        events: EventWriter,
        folder: Path,
        eos: str,
        clock: Callable[[], float] = time.monotonic,
        wall: Callable[[], float] = time.time,
    ) -> None:
        self._plan, self._ledger, self._events = plan, ledger, events
        self._folder, self._eos, self._clock, self._wall = folder, eos, clock, wall
        self._wanted = {task: plan.keys(task) for task in plan.questions}
        self._total = sum(map(len, self._wanted.values()))
        self._told: dict[str, int] = {}
        self._written: set[str] = set()
        self._made = self._last = clock()
        self._began: float | None = None
        self._before = (len(ledger.done), ledger.tokens)

    @property
    def missing(self) -> dict[str, list[int]]:
        """The questions that have no completion, by task."""
        return {
            task: lacking
            for task, keys in self._wanted.items()
            if (lacking := sorted({key[1] for key in keys if key not in self._ledger.done}))
        }

    def tick(self, *, now: bool = False) -> None:
        """Tell where the job is, unless it has just been told."""
        if not now and self._clock() - self._last < _INTERVAL:
            return
        self._last = self._clock()
        self._note_beginning(self._ledger.refresh())
        for task, keys in self._wanted.items():
            done = sum(key in self._ledger.done for key in keys)
            self._told[task] = done
            if done == len(keys) and task not in self._written:
                # What lies between is in the completions files, which whoever watches can read.
                self._events.progress(task, done, done, "questions")
                self._write(task)
        self._tell_rates()

    def _note_beginning(self, new: Iterable[Completion]) -> None:
        """Rates count from the first request's start: loading a model is no part of them."""
        for completion in new:
            if completion.at:
                ago = self._wall() - (completion.at - completion.seconds)
                started = max(self._made, self._last - ago)
                self._began = min(started, started if self._began is None else self._began)

    def _tell_rates(self) -> None:
        done = sum(self._told.values())
        self._events.progress("generate", done, self._total, "questions")
        seconds = self._last - (self._made if self._began is None else self._began)
        questions = len(self._ledger.done) - self._before[0]
        if seconds <= 0 or questions == 0:
            return
        self._events.metrics(
            done,
            {
                "questions_per_second": questions / seconds,
                "tokens_per_second": (self._ledger.tokens - self._before[1]) / seconds,
                "seconds_left": (self._total - done) * seconds / questions,
            },
        )

    def _write(self, task: str) -> None:
        path = generations_path(self._folder, task, self._plan.manifest.model_name)
        data = self._plan.generations(task, self._ledger.done, self._eos)
        if not path.exists() or path.read_bytes() != data:
            write_atomically(path, data)
        self._written.add(task)
