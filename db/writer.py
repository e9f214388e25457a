"""The writer of one run: everything since the last commit, and how far the events have been read,
in one transaction.

That is what makes ingestion safe to repeat and safe to kill. Either the rows and the new position
are both there or neither is; and a writer whose position is not the stored one any more has been
overtaken, so its rows are there already and are thrown away.
"""

import json
from collections.abc import Iterable, Mapping
from typing import Any

from sqlalchemy import Connection, Table, bindparam, update

from db import tables
from db.engine import Database
from db.errors import RunNotFoundError
from db.records import VerdictRecord
from db.results import sum_up_scores
from db.series import flagged, key_ids


def _upsert(table: Table, *, where: str = "") -> str:
    """INSERT for whole rows of ``table``; a row of the same key is overwritten.

    Not INSERT OR REPLACE, which would also turn a NULL that should be refused into a default.
    """
    names = [f'"{name}"' for name in table.c.keys()]  # noqa: SIM118 - columns, not a dict
    key = [f'"{column.name}"' for column in table.primary_key]
    changes = ", ".join(f"{name} = excluded.{name}" for name in names if name not in key)
    return (
        f"INSERT INTO {table.name} ({', '.join(names)}) "  # noqa: S608 - names of our own tables
        f"VALUES ({', '.join('?' * len(names))}) "
        f"ON CONFLICT ({', '.join(key)}) DO "
        + (f"UPDATE SET {changes} {where}" if changes else "NOTHING")
    )


_METRIC = _upsert(tables.metric)
_LATEST = _upsert(tables.latest_metric, where="WHERE excluded.at >= latest_metric.at")
_SCORE = _upsert(tables.task_score)
_VERDICT = _upsert(tables.verdict)
_ARTIFACT = _upsert(tables.artifact)
_NOTICE = _upsert(tables.notice)


class RunWriter:
    """Gathers rows of one run in memory until ``commit``.

    Begin to read the events at ``events_offset``: that is the position this writer starts from.
    One thread at a time. A commit that raises keeps what was gathered, so it can be tried again;
    ``discard`` lets go of it (the events are still in the file).
    """

    def __init__(self, database: Database, run_id: str) -> None:
        self._database = database
        self._run_id = run_id
        self._key_ids: dict[str, int] = {}
        with database.reading() as connection:
            self.events_offset, self.events_seq = _position(connection, run_id)
        self.discard()

    def discard(self) -> None:
        """Forget what was gathered since the last commit."""
        self._metrics: list[tuple[int, Mapping[str, float], float]] = []
        self._rows: dict[str, list[tuple[object, ...]]] = {}
        self._fields: dict[str, Any] = {}

    def metrics(self, step: int, values: Mapping[str, float], at: float) -> None:
        """Values at a step; the same key and step again replaces the value."""
        self._metrics.append((step, values, at))

    def score(self, task: str, passed: int, total: int, pass_at_1: float, at: float) -> None:
        """A task's result; a later one replaces it."""
        self._add(_SCORE, (self._run_id, task, passed, total, pass_at_1, at))

    def verdicts(self, task: str, rows: Iterable[VerdictRecord]) -> None:
        """Verdicts on a task's generations; one on the same sample of a question replaces it."""
        for row in rows:
            self._add(
                _VERDICT,
                (
                    self._run_id,
                    task,
                    row.index,
                    row.sample,
                    row.task_id,
                    row.passed,
                    row.status,
                    row.seconds,
                    row.detail,
                ),
            )

    def artifact(self, kind: str, path: str, sha256: str, size: int, at: float) -> None:
        """Something the run wrote; the same kind and path again replaces it."""
        self._add(_ARTIFACT, (self._run_id, kind, str(path), sha256, size, at))

    def notice(self, level: str, text: str, at: float) -> None:
        """A sentence for the person; the newest one is the run's ``message``."""
        self._add(_NOTICE, (self._run_id, at, text, level))
        self._fields["message"] = text

    def progress(self, stage: str, done: int, total: int | None, unit: str) -> None:
        """How far the run is."""
        self._fields.update(stage=stage, done=done, total=total, unit=unit)

    def finished(self, summary: Mapping[str, object]) -> None:
        """What the job said at its end."""
        self._fields["summary"] = json.dumps(summary, ensure_ascii=False)

    def set(self, **fields: Any) -> None:
        """Columns of the run to be set with the same commit."""
        self._fields.update(fields)

    def commit(self, events_offset: int | None = None, events_seq: int | None = None) -> bool:
        """Write everything gathered, and the new position, in one transaction.

        Returns False, and writes and keeps nothing, when the stored position is not the one this
        writer knows, or ``events_seq`` is not ahead of it: somebody else has read those events.
        ``events_offset`` and ``events_seq`` then are the stored ones, to begin from again. Without
        a position the rows are written whatever was read. Raises ``StoreError``.
        """
        moves = events_offset is not None and events_seq is not None
        with self._database.writing() as connection:
            position = _position(connection, self._run_id)
            if moves and (
                position != (self.events_offset, self.events_seq) or events_seq <= self.events_seq  # type: ignore[operator]
            ):
                self.events_offset, self.events_seq = position
                self.discard()
                return False
            new_keys = self._write(connection)
            fields = dict(self._fields)
            if moves:
                fields.update(events_offset=events_offset, events_seq=events_seq)
            if fields:
                row = tables.run.c.id == bindparam("run")
                connection.execute(
                    update(tables.run).where(row).values(**fields), {"run": self._run_id}
                )
        # Only now is it certain: a key's number that was rolled back may become another key's.
        self._key_ids.update(new_keys)
        if moves:
            self.events_offset, self.events_seq = events_offset, events_seq  # type: ignore[assignment]
        self.discard()
        return True

    def _add(self, statement: str, row: tuple[object, ...]) -> None:
        self._rows.setdefault(statement, []).append(row)

    def _write(self, connection: Connection) -> dict[str, int]:
        for statement, rows in self._rows.items():
            connection.exec_driver_sql(statement, rows)
        if _SCORE in self._rows:
            sum_up_scores(connection, self._run_id)
        named = {key for _, values, _ in self._metrics for key in values}
        if not named:
            return {}  # nothing was logged, or only steps without a value
        unknown = named - self._key_ids.keys()
        new_keys = key_ids(connection, sorted(unknown)) if unknown else {}
        numbers = self._key_ids | new_keys
        rows = [
            (self._run_id, numbers[key], step, *flagged(value), at)
            for step, values, at in self._metrics
            for key, value in values.items()
        ]
        connection.exec_driver_sql(_METRIC, rows)
        latest = {row[1]: row for row in rows}
        connection.exec_driver_sql(_LATEST, list(latest.values()))
        return new_keys


def _position(connection: Connection, run_id: str) -> tuple[int, int]:
    row = connection.exec_driver_sql(
        "SELECT events_offset, events_seq FROM run WHERE id = ?", (run_id,)
    ).first()
    if row is None:
        raise RunNotFoundError("there is no such run", where=run_id)
    return row.events_offset, row.events_seq
