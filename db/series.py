"""Metric values: how floats are kept, and how a chart gets few of them without losing a peak."""

import math
from collections.abc import Iterable, Mapping

from sqlalchemy import Connection, select

from db import tables
from db.records import MetricPoint

NUMBER, NAN, INFINITY, MINUS_INFINITY = range(4)
_UNFLAGGED = {NAN: math.nan, INFINITY: math.inf, MINUS_INFINITY: -math.inf}


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


def newest(points: Mapping[str, MetricPoint]) -> float | None:
    """When the newest of these was measured; None without any."""
    return max((point.at for point in points.values()), default=None)
