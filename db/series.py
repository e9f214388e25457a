"""Metric values: how floats are kept, and how a chart gets few of them without losing a peak."""

import math
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, TextClause, select, text

from db import tables
from db.records import MetricPoint, Series

NUMBER, NAN, INFINITY, MINUS_INFINITY = range(4)
_LEAST_POINTS = 5
_LOWEST, _HIGHEST = -(2**63), 2**63 - 1
_UNFLAGGED = {NAN: math.nan, INFINITY: math.inf, MINUS_INFINITY: -math.inf}

_OF_SERIES = "FROM metric WHERE run_id = :run AND key_id = :key"
# Named, because the planner would rather read a million rows than trust an index of none.
_OF_FLAGGED = (
    "FROM metric INDEXED BY ix_metric_flagged WHERE run_id = :run AND key_id = :key AND flag != 0"
)
_WHOLE = text(
    f"SELECT step, value, flag, at {_OF_SERIES} AND step BETWEEN :first AND :last "
    "ORDER BY step LIMIT :most"
)
# Two queries in one: SQLite answers min and max from the index only when asked for one at a time.
_ENDS = text(
    f"SELECT (SELECT min(step) {_OF_SERIES} AND step >= :first), "
    f"(SELECT max(step) {_OF_SERIES} AND step <= :last)"
)
_ANY_FLAGGED = text(f"SELECT 1 {_OF_FLAGGED} AND step BETWEEN :first AND :last LIMIT 1")


def _decimating(*picks: str) -> TextClause:
    """SQL for the points that ``picks`` choose from each range of steps, and both ends.

    Each pick is a scan of its range in key order, without sorting: a GROUP BY over a computed
    range would sort a million rows. ``SELECT step, min(value)`` gives the step of the minimum,
    which SQLite promises (https://sqlite.org/lang_select.html#bareagg).
    """
    within = "AND step >= low AND step <= min(low + :width - 1, :last) LIMIT 1"
    ends = ["SELECT :first", "SELECT :last"]
    chosen = [
        f"SELECT (SELECT step FROM (SELECT step, {pick} {within})) FROM ranges"  # noqa: S608 - our own text
        for pick in picks
    ]
    parts = [
        "WITH RECURSIVE ranges (low) AS (SELECT :first UNION ALL",
        "SELECT low + :width FROM ranges WHERE low + :width <= :last),",
        f"chosen (step) AS ({' UNION '.join(ends + chosen)})",
        f"SELECT step, value, flag, at {_OF_SERIES} AND step IN (SELECT step FROM chosen)",  # noqa: S608 - our own text
        "ORDER BY step",
    ]
    return text(" ".join(parts))


_EXTREMES = (f"min(value) {_OF_SERIES}", f"max(value) {_OF_SERIES}")
_DECIMATED = _decimating(*_EXTREMES)
_DECIMATED_WITH_FLAGGED = _decimating(*_EXTREMES, f"flag {_OF_FLAGGED}")


def flagged(value: float) -> tuple[float | None, int]:
    """A float as the columns ``value`` and ``flag``: SQLite would keep NaN as a bare NULL."""
    if math.isfinite(value):
        return value, NUMBER
    if math.isnan(value):
        return None, NAN
    return None, INFINITY if value > 0 else MINUS_INFINITY


def unflagged(value: float | None, flag: int) -> float:
    """The float that ``flagged`` was given."""
    return _UNFLAGGED[flag] if value is None else value


def key_ids(connection: Connection, names: Iterable[str]) -> dict[str, int]:
    """The numbers of these metric keys; those never seen before get one."""
    wanted = list(names)
    connection.exec_driver_sql(
        "INSERT OR IGNORE INTO metric_key (name) VALUES (?)", [(name,) for name in wanted]
    )
    rows = connection.execute(
        select(tables.metric_key.c.name, tables.metric_key.c.id).where(
            tables.metric_key.c.name.in_(wanted)
        )
    )
    return {row.name: row.id for row in rows}


def all_keys(connection: Connection) -> dict[str, int]:
    """The number of every metric key there is."""
    keys = tables.metric_key.c
    rows = connection.execute(select(keys.name, keys.id))
    return {row.name: row.id for row in rows}


def latest_metrics(connection: Connection, run_id: str) -> dict[str, MetricPoint]:
    """The newest value of each metric of a run, by key."""
    latest, keys = tables.latest_metric, tables.metric_key
    rows = connection.execute(
        select(keys.c.name, latest.c.step, latest.c.value, latest.c.flag, latest.c.at)
        .join_from(latest, keys)
        .where(latest.c.run_id == run_id)
        .order_by(keys.c.name)
    )
    return {row.name: MetricPoint(row.step, unflagged(row.value, row.flag), row.at) for row in rows}


def decimated(
    connection: Connection,
    run_id: str,
    key: str,
    *,
    max_points: int,
    first: int | None = None,
    last: int | None = None,
) -> Series:
    """A metric of a run between two steps (inclusive), in at most ``max_points`` points.

    When there are more, the steps are cut into equal ranges and each gives its lowest and its
    highest point, and one that is NaN or infinite where it has one; the two ends always stay. What
    is left out lies between two points that are shown.
    """
    if max_points < _LEAST_POINTS:
        raise ValueError(f"a series needs max_points of {_LEAST_POINTS} or more")
    number = all_keys(connection).get(key)
    if number is None:
        return Series(key, (), decimated=False)
    where: dict[str, Any] = {"run": run_id, "key": number, "first": _LOWEST, "last": _HIGHEST}
    if first is not None:
        where["first"] = first
    if last is not None:
        where["last"] = last
    whole = connection.execute(_WHOLE, {**where, "most": max_points + 1}).all()
    if len(whole) <= max_points:
        return Series(key, tuple(_point(row) for row in whole), decimated=False)
    where["first"], where["last"] = connection.execute(_ENDS, where).one()
    flagged_too = connection.execute(_ANY_FLAGGED, where).first() is not None
    ranges = (max_points - 2) // (3 if flagged_too else 2)
    width = -(-(where["last"] - where["first"] + 1) // ranges)
    rows = connection.execute(
        _DECIMATED_WITH_FLAGGED if flagged_too else _DECIMATED, {**where, "width": width}
    )
    return Series(key, tuple(_point(row) for row in rows), decimated=True)


def _point(row: Row[Any]) -> MetricPoint:
    return MetricPoint(row.step, unflagged(row.value, row.flag), row.at)
