"""Where a run's values go: the event log, TensorBoard, the console. Each subscribes to the loop."""

import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Protocol, TextIO

from runners.lifecycle.events import EventWriter


class Sink(Protocol):
    """Takes values at a step; only rank 0 has any."""

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Values measured at optimizer step ``step`` (steps done)."""

    def progress(self, done: int, total: int) -> None:
        """``done`` of ``total`` optimizer steps are behind us."""

    def close(self) -> None:
        """No more will come."""


class EventSink:
    """The run's event log, from which the database and the app learn everything."""

    def __init__(self, events: EventWriter) -> None:
        self._events = events

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Append a metrics event."""
        self._events.metrics(step, values)

    def progress(self, done: int, total: int) -> None:
        """Append a progress event."""
        self._events.progress("train", done, total, "step")

    def close(self) -> None:
        """The writer belongs to the job."""


class TensorBoardSink:
    """Scalars for TensorBoard; resuming purges what a dead attempt wrote beyond ``from_step``."""

    def __init__(self, folder: Path, from_step: int) -> None:
        from torch.utils.tensorboard import SummaryWriter

        folder.mkdir(parents=True, exist_ok=True)
        self._writer = SummaryWriter(str(folder), purge_step=from_step or None)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Add each value as a scalar."""
        for key, value in values.items():
            self._writer.add_scalar(key, value, step)
        self._writer.flush()

    def progress(self, done: int, total: int) -> None:
        """TensorBoard has no use for it."""

    def close(self) -> None:
        """Close its file."""
        self._writer.close()


class ConsoleSink:
    """One line for each set of values, in the run's console log."""

    def __init__(self, total: Callable[[], int], stream: TextIO = sys.stdout) -> None:
        self._total = total
        self._stream = stream

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Print the values that a person looks for first."""
        shown = [f"{key} {value:.4g}" for key, value in values.items() if "/" not in key]
        print(f"step {step}/{self._total()}  {'  '.join(shown)}", file=self._stream, flush=True)

    def progress(self, done: int, total: int) -> None:
        """The lines above say it."""

    def close(self) -> None:
        """Nothing to close."""
