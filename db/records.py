"""The values that travel between the store and its callers.

Plain frozen dataclasses, apart from the tables, so that a screen or a command can name them without
importing a database library. All times are Unix seconds.
"""

import math
from dataclasses import dataclass, field
from typing import Literal

STATUSES = ("queued", "running", "stopping", "finished", "failed", "stopped", "crashed")
LIVE_STATUSES = frozenset({"queued", "running", "stopping"})


@dataclass(frozen=True, kw_only=True)
class RunRecord:
    """One run: what was asked for, what became of it, and how far its events have been read.

    ``config``, ``command`` and ``summary`` are JSON text. ``supervisor_started`` and
    ``job_started`` are the processes' start times as psutil gives them: with the boot id and the
    host they tell a live process from a stranger that was given its pid. ``pass_at_1`` is the mean
    over the ``scored`` tasks that have a score; the writer keeps both.
    """

    id: str
    kind: str
    name: str = ""
    status: str = "queued"
    created_at: float = 0.0
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    parent_id: str | None = None
    replay_of: str | None = None
    host: str = ""
    boot_id: str = ""
    supervisor_pid: int | None = None
    supervisor_started: float | None = None
    job_pid: int | None = None
    job_started: float | None = None
    heartbeat_at: float | None = None
    stage: str = ""
    done: int | None = None
    total: int | None = None
    unit: str = ""
    attempt: int = 1
    events_offset: int = 0
    events_seq: int = 0
    trashed_at: float | None = None
    pass_at_1: float | None = None
    scored: int = 0
    model_name: str = ""
    data_fingerprint: str = ""
    folder: str = ""
    config_hash: str = ""
    message: str = ""
    note: str = ""
    command: str = "[]"
    summary: str = "{}"
    config: str = "{}"


@dataclass(frozen=True)
class MetricPoint:
    """A metric's value at a step; NaN and infinities are what they are."""

    step: int
    value: float
    at: float

    @property
    def finite(self) -> bool:
        """Whether a chart can place it."""
        return math.isfinite(self.value)


@dataclass(frozen=True)
class Series:
    """A metric over steps. ``decimated`` when points were left out; the extremes never are."""

    key: str
    points: tuple[MetricPoint, ...]
    decimated: bool


@dataclass(frozen=True)
class ScoreRecord:
    """A task's result: ``passed`` of ``total`` questions, pass@1 in [0, 1]."""

    task: str
    passed: int
    total: int
    pass_at_1: float
    at: float


@dataclass(frozen=True)
class VerdictRecord:
    """One generation's verdict, as ``verdicts_{task}_{model}.jsonl`` has it.

    ``sample`` is its place among the question's generations, from 0; ``seconds`` is CPU time.
    """

    index: int
    task_id: str
    passed: bool
    status: str
    seconds: float = 0.0
    detail: str = ""
    sample: int = 0


@dataclass(frozen=True)
class ArtifactRecord:
    """Something a run wrote. ``path`` is relative to the run folder or absolute; size in bytes."""

    kind: str
    path: str
    sha256: str
    size: int
    at: float


@dataclass(frozen=True)
class NoticeRecord:
    """A sentence that a run had for the person."""

    level: str
    text: str
    at: float


Trash = Literal["hide", "only", "include"]


@dataclass(frozen=True, kw_only=True)
class RunQuery:
    """Which runs to list, and how.

    ``filter`` is text of the filter language (``db.filter_language``). ``sort`` is a column of the
    run, a metric key, ``pass@1``, ``pass@1.TASK``, ``scored``, ``duration`` or ``config.KEY``, with
    a minus in front for descending. ``limit`` -1 is no limit. ``metrics`` names the metric keys
    whose newest values the rows should carry; empty for all of them.
    """

    filter: str = ""
    sort: str = "-created_at"
    limit: int = 50
    offset: int = 0
    trash: Trash = "hide"
    metrics: tuple[str, ...] = ()


@dataclass(frozen=True)
class RunRow:
    """A run as a list shows it: with its tags, newest metrics, and pass@1 by task."""

    run: RunRecord
    tags: tuple[str, ...] = ()
    metrics: dict[str, float] = field(default_factory=dict)
    scores: dict[str, float] = field(default_factory=dict)

    @property
    def scored(self) -> int:
        """Tasks with a score."""
        return len(self.scores)

    @property
    def pass_at_1(self) -> float | None:
        """Unweighted mean pass@1 over the scored tasks."""
        return sum(self.scores.values()) / len(self.scores) if self.scores else None


@dataclass(frozen=True)
class Page:
    """One page of a listing, and how many runs match in all.

    ``hints`` are sentences about a filter that makes sense but can match nothing.
    """

    rows: tuple[RunRow, ...]
    total: int
    offset: int
    hints: tuple[str, ...] = ()
