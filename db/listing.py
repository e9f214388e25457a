"""Lists of runs: filtered, sorted, a page at a time, with what a table shows of each."""

from collections import defaultdict
from typing import Any

from sqlalchemy import ColumnElement, Connection, func, nulls_last, select

from db import tables
from db.derived import RUN, Derived
from db.errors import QueryError
from db.fields import DERIVED_SORTS, nearest
from db.filter_sql import FilterCompiler
from db.records import Page, RunQuery, RunRecord, RunRow
from db.runs import record_of
from db.series import all_keys, unflagged


def list_runs(connection: Connection, query: RunQuery, *, now: float) -> Page:
    """One page of the runs that ``query`` asks for; ``now`` is what "7d" counts back from.

    Raises ``QueryError``.
    """
    derived = Derived(all_keys(connection), now=now)
    compiler = FilterCompiler(query.filter, derived)
    clause = compiler.compile()
    conditions = [] if clause is None else [clause]
    if not compiler.names_trash:
        conditions += _trash(query)
    # Counted apart: a window over the page would make every row of a list that an index gives.
    counted = select(func.count()).select_from(derived.source).where(*conditions)
    total = connection.execute(counted).scalar_one()
    order = _order(query.sort, derived)
    ids = connection.execute(
        select(RUN.id)
        .select_from(derived.source)
        .where(*conditions)
        .order_by(*order)
        .limit(query.limit)
        .offset(query.offset)
    ).scalars()
    runs = _records(connection, list(ids))
    rows = _dressed(connection, runs, query.metrics)
    return Page(rows, total, query.offset, tuple(compiler.hints))


def _trash(query: RunQuery) -> list[ColumnElement[bool]]:
    match query.trash:
        case "hide":
            return [RUN.trashed_at.is_(None)]
        case "only":
            return [RUN.trashed_at.is_not(None)]
        case "include":
            return []


def _order(sort: str, derived: Derived) -> list[ColumnElement[Any]]:
    """``sort`` as an ORDER BY; runs without a value come last either way, newest first."""
    column = _sort_column(sort.removeprefix("-"), derived)
    descending = sort.startswith("-")
    return [nulls_last(column.desc() if descending else column.asc()), RUN.id.desc()]


def _sort_column(name: str, derived: Derived) -> ColumnElement[Any]:
    match name:
        case "pass@1":
            return RUN.pass_at_1
        case "duration":
            return derived.duration()
    family, _, rest = name.partition(".")
    if family == "pass@1":
        return derived.score(rest)
    if family == "config" and rest:
        return derived.setting(rest)
    key = rest if family == "metric" and rest else name
    if name in tables.run.c:
        return tables.run.c[name]
    if key in derived.keys:
        return derived.metric(key)
    close = nearest(name, [*tables.run.c.keys(), *DERIVED_SORTS, *derived.keys])
    raise QueryError(
        f"runs cannot be sorted by {name!r}",
        where="sort",
        fix=f"Did you mean {close!r}?"
        if close
        else "Sort by a column such as created_at, by pass@1, pass@1.TASK, config.KEY or a metric.",
    )


def _records(connection: Connection, ids: list[str]) -> list[RunRecord]:
    rows = connection.execute(select(tables.run).where(RUN.id.in_(ids)))
    found = {row.id: record_of(row) for row in rows}
    return [found[run_id] for run_id in ids]


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
        .order_by(names.name)
    )
    if keys:
        wanted = wanted.where(names.name.in_(keys))
    for run_id, name, value, flag in connection.execute(wanted):
        metrics[run_id][name] = unflagged(value, flag)
    return tuple(RunRow(run, tuple(tags[run.id]), metrics[run.id], scores[run.id]) for run in runs)
