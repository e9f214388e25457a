"""What a run has through other tables, as columns that filters and sorts can use.

Each table is joined at most once a query, however often a filter and a sort name it.
"""

from collections.abc import Mapping
from typing import Any

from sqlalchemy import ColumnElement, FromClause, case, func, literal

from db import tables
from db.series import INFINITY, MINUS_INFINITY, NUMBER

RUN = tables.run.c


class Derived:
    """Columns of runs beyond the table ``run``; ``source`` is that table and what they joined.

    ``keys`` are the metric keys of the store and their numbers; ``now`` is in Unix seconds.
    """

    def __init__(self, keys: Mapping[str, int], *, now: float) -> None:
        self.keys = keys
        self.now = now
        self.source: FromClause = tables.run
        self._joined: dict[str, Any] = {}

    def metric(self, name: str) -> ColumnElement[float]:
        """The newest value of a metric; NULL without one, and for NaN, which compares with
        nothing."""
        latest = self._latest(name)
        return case(
            (latest.c.flag == NUMBER, latest.c.value),
            (latest.c.flag == INFINITY, literal(float("inf"))),
            (latest.c.flag == MINUS_INFINITY, literal(float("-inf"))),
        )

    def metric_flag(self, name: str) -> ColumnElement[int]:
        """Which kind of value the newest one is; see ``db.series``."""
        flag: ColumnElement[int] = self._latest(name).c.flag
        return flag

    def score(self, task: str) -> ColumnElement[float]:
        """pass@1 of one task."""
        joined = self._joined.get(f"score {task}")
        if joined is None:
            joined = self._joined[f"score {task}"] = tables.task_score.alias()
            self.source = self.source.outerjoin(
                joined, (joined.c.run_id == RUN.id) & (joined.c.task == task)
            )
        column: ColumnElement[float] = joined.c.pass_at_1
        return column

    def duration(self) -> ColumnElement[float]:
        """Seconds the job took, or has taken until now; NULL before it began."""
        return func.coalesce(RUN.ended_at, self.now) - RUN.started_at

    def setting(self, key: str) -> ColumnElement[Any]:
        """A value of the config; NULL where there is none or the config is no JSON."""
        escaped = key.replace('"', '\\"')
        return case((func.json_valid(RUN.config), func.json_extract(RUN.config, f'$."{escaped}"')))

    def _latest(self, name: str) -> Any:
        joined = self._joined.get(f"metric {name}")
        if joined is None:
            joined = self._joined[f"metric {name}"] = tables.latest_metric.alias()
            # A key that no run has ever had joins nothing.
            number = self.keys.get(name, -1)
            self.source = self.source.outerjoin(
                joined, (joined.c.run_id == RUN.id) & (joined.c.key_id == number)
            )
        return joined
