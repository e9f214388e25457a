"""What a list of runs can say of a run, a column each: pure functions of a row and the time."""

from collections.abc import Callable
from dataclasses import dataclass

from db.records import LIVE_STATUSES, RunRow
from mft_tui.widgets.quantities import ago, bar, number, span

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

STALE_AFTER = 60.0
"""Seconds without a heartbeat after which a run of another host is called stale."""


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
    """The run's status, or ``stale`` when it should be alive and has been silent."""
    run = row.run
    silent = run.heartbeat_at is not None and now - run.heartbeat_at > STALE_AFTER
    return "stale" if run.status == "running" and silent else run.status


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
    Column("took", "took", 8, 6, _took, "", right=True),
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
