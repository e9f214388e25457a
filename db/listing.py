"""Lists of runs: filtered, sorted, a page at a time, with what a table shows of each."""

from collections import defaultdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, Select, func, select

from db import tables
from db.errors import QueryError
from db.records import Page, RunQuery, RunRecord, RunRow
from db.runs import record_of
from db.series import unflagged


def list_runs(connection: Connection, query: RunQuery, *, now: float) -> Page:
    """One page of the runs that ``query`` asks for; ``now`` is what "7d" counts back from.

    Raises ``QueryError``.
    """
    condition = _trash(query)
    total = connection.execute(select(func.count()).select_from(tables.run).where(*condition))
    page: Select[Any] = (
        select(tables.run)
        .where(*condition)
        .order_by(*_order(query.sort))
        .limit(query.limit)
        .offset(query.offset)
    )
    runs = [record_of(row) for row in connection.execute(page)]
    return Page(_dressed(connection, runs, query.metrics), total.scalar_one(), query.offset)


def _trash(query: RunQuery) -> list[ColumnElement[bool]]:
    match query.trash:
        case "hide":
            return [tables.run.c.trashed_at.is_(None)]
        case "only":
            return [tables.run.c.trashed_at.is_not(None)]
        case _:
            return []


def _order(sort: str) -> list[ColumnElement[Any]]:
    name = sort.removeprefix("-")
    if name not in tables.run.c:
        raise QueryError(f"runs cannot be sorted by {name!r}")
    column = tables.run.c[name]
    return [column.desc() if sort.startswith("-") else column.asc(), tables.run.c.id.desc()]


def _dressed(
    connection: Connection, runs: list[RunRecord], keys: tuple[str, ...]
) -> tuple[RunRow, ...]:
    """Tags, latest metrics and scores of a page's runs, one query for each kind."""
    ids = [run.id for run in runs]
    tags: dict[str, list[str]] = defaultdict(list)
    tag = tables.tag.c
    for run_id, name in connection.execute(
        select(tag.run_id, tag.name).where(tag.run_id.in_(ids)).order_by(tag.name)
    ):
        tags[run_id].append(name)
    scores: dict[str, dict[str, float]] = defaultdict(dict)
    score = tables.task_score.c
    for run_id, task, pass_at_1 in connection.execute(
        select(score.run_id, score.task, score.pass_at_1).where(score.run_id.in_(ids))
    ):
        scores[run_id][task] = pass_at_1
    metrics: dict[str, dict[str, float]] = defaultdict(dict)
    latest, names = tables.latest_metric, tables.metric_key.c
    wanted = (
        select(latest.c.run_id, names.name, latest.c.value, latest.c.flag)
        .join_from(latest, tables.metric_key)
        .where(latest.c.run_id.in_(ids))
    )
    if keys:
        wanted = wanted.where(names.name.in_(keys))
    for run_id, name, value, flag in connection.execute(wanted):
        metrics[run_id][name] = unflagged(value, flag)
    return tuple(RunRow(run, tuple(tags[run.id]), metrics[run.id], scores[run.id]) for run in runs)
