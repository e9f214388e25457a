"""The event log: how a job tells the world what it does.

One JSON object a line, appended only, by rank 0. The file is the contract between a job and whoever
watches: the supervisor copies it into the database, the app follows it, and a run folder that is
carried to another machine brings its whole history. A line without its newline is end of file: a
reader stops before it, and the next writer cuts it off.
"""

import math
import os
import stat
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Literal, Self

import msgspec

Level = Literal["info", "warning", "error"]


class Event(msgspec.Struct, frozen=True, kw_only=True, tag_field="event", omit_defaults=False):
    """What every event has: ``at`` in Unix seconds and ``seq``, counting up from 1 in the file."""

    at: float
    seq: int


class Started(Event, frozen=True, kw_only=True, tag="started"):
    """A job process began; ``attempt`` counts from 1 and grows when a run is resumed."""

    job: str
    pid: int
    attempt: int


class Progress(Event, frozen=True, kw_only=True, tag="progress"):
    """``done`` of ``total`` ``unit`` of ``stage``; ``total`` is None while it is not known."""

    stage: str
    done: int
    total: int | None
    unit: str


class Metrics(Event, frozen=True, kw_only=True, tag="metrics"):
    """Values at a step. JSON has no NaN or infinity: they travel as "nan", "inf" and "-inf"."""

    step: int
    values: dict[str, float | str]

    def numbers(self) -> dict[str, float]:
        """The values as floats, NaN and infinities included."""
        return {key: float(value) for key, value in self.values.items()}


class Score(Event, frozen=True, kw_only=True, tag="score"):
    """A task has been evaluated: ``passed`` of ``total`` questions, pass@1 in [0, 1]."""

    task: str
    passed: int
    total: int
    pass_at_1: float


class Artifact(Event, frozen=True, kw_only=True, tag="artifact"):
    """The job wrote something worth keeping. ``path`` is relative to the run folder or absolute."""

    kind: str
    path: str
    sha256: str
    bytes: int


class Notice(Event, frozen=True, kw_only=True, tag="notice", omit_defaults=True):
    """Something a person should know, in one sentence.

    The error that ends a job carries the ``exit_code`` it deserves, because a launcher between the
    job and its supervisor turns every failure into 1.
    """

    level: Level
    text: str
    exit_code: int | None = None


class Finished(Event, frozen=True, kw_only=True, tag="finished"):
    """The job did all it was asked to; ``summary`` is small and job specific."""

    summary: dict[str, object]


AnyEvent = Started | Progress | Metrics | Score | Artifact | Notice | Finished

_encoder = msgspec.json.Encoder()
_decoder: msgspec.json.Decoder[AnyEvent] = msgspec.json.Decoder(AnyEvent)
_TAIL_BYTES = 1 << 16


def decode_event(line: bytes) -> AnyEvent:
    """Decode one line. Raises ``msgspec.DecodeError`` when it is not an event."""
    return _decoder.decode(line)


def read_events(path: Path, offset: int = 0) -> Iterator[tuple[AnyEvent, int]]:
    """Yield each complete event from byte ``offset`` on, with the offset just after it.

    Stops quietly at a torn last line. A complete line that is no event (a damaged disk, a hand
    edit) is passed over: one bad line must not hide the rest of a run.
    """
    with path.open("rb") as file:
        file.seek(offset)
        for line in file:
            if not line.endswith(b"\n"):
                return
            offset += len(line)
            try:
                event = decode_event(line)
            except msgspec.DecodeError:
                continue
            yield event, offset


class EventWriter:
    """Appends events to a file; one writer at a time, each event one ``write`` call.

    Opening cuts a torn last line and goes on with the sequence number after the last whole one.
    Raises ``OSError`` when the file cannot be written (a full disk, say): the caller's job stops,
    because a run nobody can see is worse than one that stops.
    """

    def __init__(self, path: Path, *, clock: Callable[[], float] = time.time) -> None:
        self._clock = clock
        self._fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._seq = self._repair()

    def _repair(self) -> int:
        size = os.fstat(self._fd).st_size
        start = max(0, size - _TAIL_BYTES)
        tail = os.pread(self._fd, size - start, start)
        while start > 0 and tail.count(b"\n") < 2:
            start = max(0, start - _TAIL_BYTES)
            tail = os.pread(self._fd, size - start, start)
        whole, newline, torn = tail.rpartition(b"\n")
        if torn:
            os.ftruncate(self._fd, size - len(torn))
        if not newline:
            return 0
        for line in reversed(whole.split(b"\n")):
            try:
                return decode_event(line).seq
            except msgspec.DecodeError:
                continue
        return 0

    @property
    def last_seq(self) -> int:
        """Sequence number of the last event in the file; 0 when there is none."""
        return self._seq

    def _append(self, kind: Callable[..., AnyEvent], /, **fields: object) -> None:
        event = kind(at=self._clock(), seq=self._seq + 1, **fields)
        line = _encoder.encode(event) + b"\n"
        written = os.write(self._fd, line)
        if written != len(line):
            os.ftruncate(self._fd, os.fstat(self._fd).st_size - written)
            raise OSError(28, "No space left on device")
        self._seq = event.seq

    def started(self, job: str, *, attempt: int = 1) -> None:
        """Record that this process began ``job``."""
        self._append(Started, job=job, pid=os.getpid(), attempt=attempt)

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """Record that ``done`` of ``total`` units of a stage are behind us."""
        self._append(Progress, stage=stage, done=done, total=total, unit=unit)

    def metrics(self, step: int, values: Mapping[str, float]) -> None:
        """Record values at a step; NaN and infinities are kept."""
        safe = {k: float(v) if math.isfinite(v) else str(float(v)) for k, v in values.items()}
        self._append(Metrics, step=step, values=safe)

    def score(self, task: str, passed: int, total: int, pass_at_1: float) -> None:
        """Record a task's pass@1."""
        self._append(Score, task=task, passed=passed, total=total, pass_at_1=pass_at_1)

    def artifact(self, kind: str, path: Path | str, sha256: str, size: int) -> None:
        """Record a file or folder that the job wrote."""
        self._append(Artifact, kind=kind, path=str(path), sha256=sha256, bytes=size)

    def notice(self, level: Level, text: str, *, exit_code: int | None = None) -> None:
        """Record a sentence for the person; ``exit_code`` with the error that ends the job."""
        self._append(Notice, level=level, text=text, exit_code=exit_code)

    def finished(self, summary: Mapping[str, object]) -> None:
        """Record that all is done."""
        self._append(Finished, summary=dict(summary))

    def close(self) -> None:
        """Flush to disk and close."""
        if stat.S_ISREG(os.fstat(self._fd).st_mode):
            os.fsync(self._fd)
        os.close(self._fd)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
