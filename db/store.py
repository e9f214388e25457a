"""The store as the rest of the program sees it: one method a question, one transaction a method.

What each method does stands in the module of its subject; here is only which kind of transaction
it needs.
"""

import time
from collections.abc import Callable, Collection, Iterable
from types import TracebackType
from typing import Any, Self

from db import labels, listing, results, runs, series
from db.engine import Database
from db.records import (
    ArtifactRecord,
    MetricPoint,
    NoticeRecord,
    Page,
    RunQuery,
    RunRecord,
    ScoreRecord,
    Series,
    VerdictRecord,
)
from db.writer import RunWriter


class Store:
    """Everything that is remembered. Made by ``db.open_store``; safe to use from several threads.

    ``warnings`` holds sentences for the person about this store. Run ids are whole ids; what a
    person typed goes through ``get_run`` first.
    """

    def __init__(
        self,
        database: Database,
        *,
        warnings: tuple[str, ...] = (),
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._clock = clock
        self.path = database.path
        self.read_only = database.read_only
        self.warnings = warnings

    def close(self) -> None:
        """Close the file."""
        self._database.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    # Runs

    def insert_run(self, record: RunRecord) -> None:
        """Add a run. Raises ``DuplicateRunError``."""
        with self._database.writing() as connection:
            runs.insert_run(connection, record)

    def get_run(self, run_id: str) -> RunRecord:
        """The run of that id or unique prefix.

        Raises ``RunNotFoundError`` or ``AmbiguousRunError``.
        """
        with self._database.reading() as connection:
            return runs.find_run(connection, run_id)

    def update_run(self, run_id: str, **fields: Any) -> None:
        """Set columns of a run. Raises ``RunNotFoundError``."""
        with self._database.writing() as connection:
            runs.update_run(connection, run_id, fields)

    def transition(self, run_id: str, to: str, *, expected: Collection[str], **fields: Any) -> bool:
        """Give a run the status ``to`` if it has one of ``expected``; return whether it had.

        ``fields`` are set with it. Of two processes that try at once, one gets True.
        """
        with self._database.writing() as connection:
            return runs.update_run(connection, run_id, {"status": to, **fields}, expected=expected)

    def children(self, run_id: str) -> list[RunRecord]:
        """The runs that continue this one, oldest first."""
        with self._database.reading() as connection:
            return runs.children(connection, run_id)

    def list_runs(self, query: RunQuery | None = None) -> Page:
        """One page of runs. Raises ``QueryError``."""
        with self._database.reading() as connection:
            return listing.list_runs(connection, query or RunQuery(), now=self._clock())

    # What people say about runs

    def tag(self, run_id: str, names: Iterable[str]) -> None:
        """Hang tags on a run. Raises ``QueryError`` for a name that cannot be one."""
        with self._database.writing() as connection:
            labels.tag(connection, run_id, names)

    def untag(self, run_id: str, names: Iterable[str]) -> list[str]:
        """Take tags off a run; return those that did hang there."""
        with self._database.writing() as connection:
            return labels.untag(connection, run_id, names)

    def tags(self, run_id: str) -> list[str]:
        """The tags of a run, in alphabetical order."""
        with self._database.reading() as connection:
            return labels.tags(connection, run_id)

    def all_tags(self) -> dict[str, int]:
        """Every tag there is, and how many runs have it."""
        with self._database.reading() as connection:
            return labels.all_tags(connection)

    def set_note(self, run_id: str, note: str) -> None:
        """Write a note on a run, in place of the one it has."""
        self.update_run(run_id, note=note)

    def rename(self, run_id: str, name: str) -> None:
        """Give a run another name."""
        self.update_run(run_id, name=name)

    def trash(self, run_id: str) -> None:
        """Move a run to the trash; its rows and its folder stay until ``remove``."""
        self.update_run(run_id, trashed_at=self._clock())

    def restore(self, run_id: str) -> None:
        """Take a run out of the trash."""
        self.update_run(run_id, trashed_at=None)

    # What runs bring

    def writer(self, run_id: str) -> RunWriter:
        """A writer that begins where the run's events have been read to."""
        return RunWriter(self._database, run_id)

    def series(
        self,
        run_id: str,
        key: str,
        max_points: int = 2000,
        *,
        first: int | None = None,
        last: int | None = None,
    ) -> Series:
        """A metric over steps, in at most ``max_points`` points; the extremes never go."""
        with self._database.reading() as connection:
            return series.decimated(
                connection, run_id, key, max_points=max_points, first=first, last=last
            )

    def metric_keys(self) -> list[str]:
        """Every metric key that any run has had, in alphabetical order."""
        with self._database.reading() as connection:
            return sorted(series.all_keys(connection))

    def latest_metrics(self, run_id: str) -> dict[str, MetricPoint]:
        """The newest value of each metric, by key."""
        with self._database.reading() as connection:
            return series.latest_metrics(connection, run_id)

    def scores(self, run_id: str) -> list[ScoreRecord]:
        """The scores of a run, by task."""
        with self._database.reading() as connection:
            return results.scores(connection, run_id)

    def verdicts(self, run_id: str, task: str) -> list[VerdictRecord]:
        """The verdicts of one task, in question order."""
        with self._database.reading() as connection:
            return results.verdicts(connection, run_id, task)

    def artifacts(self, run_id: str) -> list[ArtifactRecord]:
        """What a run wrote, oldest first."""
        with self._database.reading() as connection:
            return results.artifacts(connection, run_id)

    def notices(self, run_id: str) -> list[NoticeRecord]:
        """What a run had to say, oldest first."""
        with self._database.reading() as connection:
            return results.notices(connection, run_id)
