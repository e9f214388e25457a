"""What a list of runs can say of a run, a column each: pure functions of a row and the time."""

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import cache, lru_cache
from typing import TYPE_CHECKING, Any

from db.records import LIVE_STATUSES, RunRow
from mft_tui.widgets.quantities import ago, bar, number, span

if TYPE_CHECKING:
    from runners.lifecycle.processes import Machine

Cell = tuple[str, str]
"""Text, and its tone: "", muted, good, live, warn or bad."""

STATUS_MARKS: dict[str, Cell] = {
    "queued": ("○", "muted"),
    "running": ("●", "live"),
    "stopping": ("◐", "warn"),
    "finished": ("✓", "good"),
    "failed": ("✗", "bad"),
    "stopped": ("■", "warn"),
    "crashed": ("!", "bad"),
    "stale": ("?", "warn"),
}


@dataclass(frozen=True)
class Column:
    """A column: ``rank`` says which goes first when room is short (the highest)."""

    key: str
    title: str
    width: int
    rank: int
    cell: Callable[[RunRow, float], Cell]
    sort: str = ""
    right: bool = False
    flexible: bool = False


def status_of(row: RunRow, now: float) -> str:
    """The run's status, or ``stale`` when it is on another machine that has been silent."""
    # Not at the top: it brings psutil, which the first paint does without.
    from runners.lifecycle.liveness import shown_status

    return shown_status(row.run, _here(), now)


@cache
def _here() -> "Machine":
    from runners.lifecycle.processes import Machine

    return Machine.here()


def remaining(row: RunRow, now: float) -> float | None:
    """Seconds until ``total`` is reached at the mean pace so far; None when it cannot be said."""
    run = row.run
    if run.status != "running" or not run.total or not run.done or run.started_at is None:
        return None
    return (now - run.started_at) / run.done * max(0, run.total - run.done)


def _status(row: RunRow, now: float) -> Cell:
    status = status_of(row, now)
    mark, tone = STATUS_MARKS.get(status, ("·", "muted"))
    return f"{mark} {status}", tone


def _name(row: RunRow, now: float) -> Cell:
    return row.run.name or row.run.model_name or row.run.id, ""


def _result(row: RunRow, now: float) -> Cell:
    run = row.run
    if run.status in LIVE_STATUSES and run.total:
        share = (run.done or 0) / run.total
        left = remaining(row, now)
        return f"{bar(share, 6)} {share:4.0%} {span(left)}".rstrip(), "live"
    if run.status in LIVE_STATUSES:
        return run.stage, "live"
    if (mean := row.pass_at_1) is not None:
        return f"pass@1 {mean:.3f} of {row.scored}", ""
    for key in ("eval/loss", "valid/loss", "loss", "train/loss"):
        if key in row.metrics:
            return f"{key.replace('/', ' ')} {number(row.metrics[key])}", ""
    if run.status in ("failed", "crashed"):
        return run.message.splitlines()[0] if run.message else f"exit {run.exit_code}", "muted"
    if run.total:
        return f"{run.done or 0:,} of {run.total:,} {run.unit}", "muted"
    return "", ""


def _took(row: RunRow, now: float) -> Cell:
    run = row.run
    if run.started_at is None:
        return "", ""
    live = run.status in LIVE_STATUSES
    end = now if live else run.ended_at or run.heartbeat_at
    return span(None if end is None else end - run.started_at), "muted"


def _tags(row: RunRow, now: float) -> Cell:
    return " ".join(f"#{tag}" for tag in row.tags), "muted"


COLUMNS: tuple[Column, ...] = (
    Column("status", "status", 10, 0, _status, "status"),
    Column("id", "run", 10, 5, lambda row, now: (row.run.id, "muted"), "id"),
    Column("kind", "kind", 8, 2, lambda row, now: (row.run.kind, ""), "kind"),
    Column("name", "name", 14, 1, _name, "name", flexible=True),
    Column("result", "result", 20, 3, _result, "pass@1"),
    Column(
        "age",
        "started",
        9,
        4,
        lambda row, now: (ago(row.run.created_at, now), "muted"),
        "created_at",
        right=True,
    ),
    Column("took", "took", 8, 6, _took, "duration", right=True),
    Column("tags", "tags", 12, 7, _tags, ""),
    Column(
        "note",
        "note",
        16,
        8,
        lambda row, now: (row.run.note.replace("\n", " "), "muted"),
        "",
        flexible=True,
    ),
)

_CONFIG, _SCORE, _METRIC = "config.", "pass@1.", "metric."
_VALUE_WIDTH, _VALUE_RANK = 12, 4


def columns_of(keys: Iterable[str]) -> tuple[Column, ...]:
    """The columns of these keys: ours in our order, then values that the person asked for.

    Those are named as ``runs list --sort`` names them: a metric, ``config.KEY``, ``pass@1.TASK``.
    """
    wanted = list(keys)
    ours = tuple(column for column in COLUMNS if column.key in wanted)
    known = {column.key for column in COLUMNS}
    return ours + tuple(_value_column(key) for key in dict.fromkeys(wanted) if key not in known)


def _value_column(key: str) -> Column:
    name = key.removeprefix(_METRIC)

    def cell(row: RunRow, now: float) -> Cell:
        if key.startswith(_CONFIG):
            return _setting(row.run.config, key.removeprefix(_CONFIG)), ""
        if key.startswith(_SCORE):
            score = row.scores.get(key.removeprefix(_SCORE))
            return "" if score is None else f"{score:.3f}", ""
        return number(row.metrics[name]) if name in row.metrics else "", ""

    title = name.removeprefix(_CONFIG)
    width = max(_VALUE_WIDTH, min(len(title) + 2, 24))  # room for the arrow of the order
    return Column(key, title, width, _VALUE_RANK, cell, name, right=True)


def _setting(config: str, key: str) -> str:
    value: Any = _settings(config)
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if value is None:
        return ""
    return value if isinstance(value, str) else json.dumps(value)


@lru_cache(maxsize=500)
def _settings(config: str) -> dict[str, Any]:
    try:
        found = json.loads(config)
    except ValueError:
        return {}
    return found if isinstance(found, dict) else {}
