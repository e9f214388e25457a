"""What a person sees while a command follows a run: one live line, and sentences above it.

On a terminal the line is redrawn; anywhere else a plain line is printed now and then, so that a
batch system's log is short and can be read.
"""

import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Protocol

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.text import Text

from runners.lifecycle.events import (
    AnyEvent,
    Finished,
    Metrics,
    Notice,
    Progress,
    Score,
)
from runners.lifecycle.folders import RunFolder
from runners.lifecycle.processes import Machine
from runners.lifecycle.tail import RunTail, supervised

PLAIN_SECONDS = 10.0
"""Between two progress lines where there is no terminal."""

_LOOK_SECONDS = 0.1
_BAR_WIDTH = 24
_RATE_WINDOW = 20.0
_RATE = "_per_second"


class Display(Protocol):
    """Shows a run as it goes."""

    def __enter__(self) -> "Display": ...
    def __exit__(self, *exc: object) -> None: ...
    def event(self, event: AnyEvent) -> None:
        """Show what the job told."""

    def console(self, text: str) -> None:
        """Show console output, whole lines."""

    def tick(self) -> None:
        """Redraw what changes with time."""


class Pace:
    """How fast a stage goes: units a second over the last seconds, and the time left."""

    def __init__(self, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._points: list[tuple[float, int]] = []
        self._stage = ""
        self.latest: Progress | None = None

    def add(self, progress: Progress) -> None:
        """Take a progress event in."""
        if progress.stage != self._stage or (self.latest and progress.done < self.latest.done):
            self._points.clear()
            self._stage = progress.stage
        self.latest = progress
        self._points.append((progress.at, progress.done))
        while len(self._points) > 2 and progress.at - self._points[0][0] > _RATE_WINDOW:
            self._points.pop(0)

    @property
    def rate(self) -> float | None:
        """Units a second; None while it cannot be told."""
        if len(self._points) < 2:
            return None
        (first_at, first), (last_at, last) = self._points[0], self._points[-1]
        return (last - first) / (last_at - first_at) if last_at > first_at else None

    @property
    def seconds_left(self) -> float | None:
        """Seconds to the end of the stage; None while it cannot be told."""
        if self.latest is None or self.latest.total is None or not self.rate:
            return None
        waited = max(0.0, self._clock() - self.latest.at)
        return max(0.0, (self.latest.total - self.latest.done) / self.rate - waited)

    def line(self) -> str:
        """Stage, count, rate and time left, as one line without a bar."""
        progress = self.latest
        if progress is None:
            return "starting"
        count = f"{progress.done:,}"
        if progress.total is not None:
            count += f"/{progress.total:,}"
        parts = [f"{progress.stage} {count} {progress.unit}"]
        if self.rate:
            parts.append(shown_rate(self.rate, progress.unit))
        if self.seconds_left is not None:
            parts.append(f"{shown_seconds(self.seconds_left)} left")
        return " · ".join(parts)


def shown_rate(rate: float, unit: str) -> str:
    """A rate with a number that can be read: a second, or seconds each when slower."""
    return f"{rate:,.1f} {unit}/s" if rate >= 1 else f"{1 / rate:,.1f} s/{unit}"


def shown_seconds(seconds: float) -> str:
    """Seconds as 42s, 3m05s or 2h07m."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole}s"
    if whole < 3600:
        return f"{whole // 60}m{whole % 60:02}s"
    return f"{whole // 3600}h{whole % 3600 // 60:02}m"


class LiveDisplay:
    """One line at the bottom of a terminal, redrawn; everything else scrolls above it."""

    def __init__(self, console: Console, label: str) -> None:
        self._out = console
        self._label = label
        self._pace = Pace()
        self._metrics = ""
        self._live = Live(console=console, refresh_per_second=8, transient=True)

    def __enter__(self) -> "LiveDisplay":
        self._live.start()
        self.tick()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def event(self, event: AnyEvent) -> None:
        """Show what the job told."""
        match event:
            case Progress():
                self._pace.add(event)
            case Metrics():
                self._metrics = shown_metrics(event)
            case _:
                if text := told(event):
                    self._out.print(text, highlight=False, markup=False)

    def console(self, text: str) -> None:
        """Show console output, whole lines."""
        self._out.print(Text.from_ansi(text.rstrip("\n")), highlight=False)

    def tick(self) -> None:
        """Redraw."""
        line = Text(no_wrap=True, overflow="ellipsis")
        line.append(f"{self._label} ", style="dim")
        progress = self._pace.latest
        if progress is not None and progress.total:
            filled = min(_BAR_WIDTH, _BAR_WIDTH * progress.done // progress.total)
            line.append("━" * filled, style="green")
            line.append("━" * (_BAR_WIDTH - filled) + " ", style="bright_black")
        line.append(self._pace.line())
        if self._metrics:
            line.append(f" · {self._metrics}", style="cyan")
        self._live.update(Group(*self.above(), line))

    def above(self) -> list[RenderableType]:
        """What stands above the line and is redrawn with it: nothing, for most kinds of run."""
        return []


class PlainDisplay:
    """Lines for a log file: each stage's first, last and now and then one between."""

    def __init__(
        self, console: Console, label: str, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._out = console
        self._label = label
        self._clock = clock
        self._pace = Pace()
        self._metrics = ""
        self._printed_at = float("-inf")
        self._printed = ("", -1)

    def __enter__(self) -> "PlainDisplay":
        return self

    def __exit__(self, *exc: object) -> None:
        self._print_progress()

    def event(self, event: AnyEvent) -> None:
        """Print what the job told, progress only now and then."""
        match event:
            case Progress():
                new_stage = self._pace.latest is None or self._pace.latest.stage != event.stage
                if new_stage:
                    self._print_progress()
                self._pace.add(event)
                if new_stage or event.done == event.total:
                    self._print_progress()
            case Metrics():
                self._metrics = shown_metrics(event)
            case _:
                if text := told(event):
                    self._line(text)

    def console(self, text: str) -> None:
        """Print console output, whole lines."""
        self._line(text.rstrip("\n"))

    def tick(self) -> None:
        """Print a progress line when the last one is old."""
        if self._clock() - self._printed_at >= PLAIN_SECONDS:
            self._print_progress()

    def _print_progress(self) -> None:
        progress = self._pace.latest
        if progress is None or (progress.stage, progress.done) == self._printed:
            return
        self._printed = (progress.stage, progress.done)
        self._printed_at = self._clock()
        metrics = f" · {self._metrics}" if self._metrics else ""
        self._line(f"{self._label} {self._pace.line()}{metrics}")

    def _line(self, text: str) -> None:
        self._out.print(text, highlight=False, markup=False, soft_wrap=True)


def shown_metrics(event: Metrics) -> str:
    """The numbers people watch, in one short string: losses, else rates, else the first two.

    Questions a second are the pace of the progress line already.
    """
    numbers = event.numbers()
    wanted = [key for key in ("loss", "train_loss", "eval_loss", "valid_loss") if key in numbers]
    rates = [key for key in numbers if key.endswith(_RATE) and not key.startswith("questions")]
    if rates and not wanted:
        return " · ".join(f"{numbers[key]:,.0f} {key.removesuffix(_RATE)}/s" for key in rates)
    return " ".join(f"{key} {numbers[key]:.4g}" for key in wanted or list(numbers)[:2])


def told(event: AnyEvent) -> str:
    """A sentence for an event that deserves one, "" for the others."""
    match event:
        case Score():
            return f"  {event.task}: {event.passed}/{event.total} pass@1 {event.pass_at_1:.3f}"
        case Notice(level="info"):
            return event.text
        case Notice():
            return f"{event.level}: {event.text}"
        case Finished() | _:
            return ""


def display_for(console: Console, label: str, folder: RunFolder | None = None) -> Display:
    """The live display on a terminal, plain lines elsewhere.

    With its ``folder`` a generation shows its tasks and its last completions too.
    """
    if not console.is_terminal:
        return PlainDisplay(console, label)
    if folder is None:
        return LiveDisplay(console, label)
    from mft_tui.cli.answering import AnsweringDisplay

    return AnsweringDisplay(console, label, folder)


def follow(
    tail: RunTail,
    display: Display,
    *,
    show_console: bool,
    sleep: Callable[[float], None] = time.sleep,
) -> None:
    """Show a run until it has ended or its supervisor is gone. Ctrl-C comes out of it."""
    here = Machine.here()
    rest = b""
    while True:
        news = tail.look()
        for event in news.events:
            display.event(event)
        if show_console and news.console:
            whole, newline, rest = (rest + news.console).rpartition(b"\n")
            if newline:
                display.console(last_of_progress_bars(whole.decode(errors="replace")))
        display.tick()
        if news.empty and (
            (news.status is not None and news.status.ended) or not supervised(news.status, here)
        ):
            break
        sleep(0 if not news.empty else _LOOK_SECONDS)
    if show_console and rest:
        display.console(rest.decode(errors="replace"))


def last_of_progress_bars(text: str) -> str:
    """Text in which what a carriage return overwrote is gone."""
    return "\n".join(line.rstrip("\r").rpartition("\r")[2] for line in text.split("\n"))


@contextmanager
def termination_as_interrupt() -> Iterator[None]:
    """Within it, SIGTERM comes as Ctrl-C does: a batch system that ends us means the run too."""

    def interrupt(_signum: int, _frame: FrameType | None) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, interrupt)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)
