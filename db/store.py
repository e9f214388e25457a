"""The store as the rest of the program sees it: one method a question, one transaction a method.

What each method does stands in the module of its subject; here is only which kind of transaction
it needs.
"""

import sqlite3
import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from types import TracebackType
from typing import Any, Self

from db import comparison, labels, listing, repair, results, runs, series, transfer
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
        """The verdicts of one task, in the order of questions and samples."""
        with self._database.reading() as connection:
            return results.verdicts(connection, run_id, task)

    def artifacts(self, run_id: str) -> list[ArtifactRecord]:
        """What a run wrote, oldest first."""
        with self._database.reading() as connection:
            return results.artifacts(connection, run_id)

    def maker_of(self, path: Path) -> str | None:
        """The run that last wrote ``path`` (absolute), outside its own folder, if any did."""
        with self._database.reading() as connection:
            return results.maker_of(connection, path)

    def notices(self, run_id: str) -> list[NoticeRecord]:
        """What a run had to say, oldest first."""
        with self._database.reading() as connection:
            return results.notices(connection, run_id)

    # Runs side by side, and runs that travel

    def compare(self, run_ids: Sequence[str]) -> comparison.Comparison:
        """Two runs or more (ids or prefixes) side by side; the first is what the others flip
        against. Raises ``RunNotFoundError`` and its kin, ``QueryError`` for fewer than two."""
        with self._database.reading() as connection:
            return comparison.compare(connection, run_ids)

    def flips(self, first: str, second: str) -> comparison.Flips:
        """The questions on which two runs disagree, with McNemar's exact test."""
        with self._database.reading() as connection:
            return comparison.flips(connection, first, second)

    def run_card(self, run_id: str) -> dict[str, Any]:
        """What the store knows of a run and its folder does not, ready for JSON."""
        with self._database.reading() as connection:
            return transfer.run_card(connection, run_id)

    def import_card(self, card: Mapping[str, Any], folder: Path) -> bool:
        """Add the run of a card; return whether it was new. Its events are read in afterwards.

        Raises ``StoreError`` for a card that is none, ``DuplicateRunError`` for another run's id.
        """
        with self._database.writing() as connection:
            return transfer.import_card(connection, card, folder)

    def merge(self, other: Path, runs_folder: Path | None = None) -> transfer.Merged:
        """Take in the runs of another store, whatever its schema; doing it again changes nothing.

        ``runs_folder`` is where the folders of new runs will be. The other file is not changed.
        Raises ``StoreError`` when it is no store, or a newer one.
        """
        from db import opening

        with opening.copied(other) as copy, self._database.writing(copy) as connection:
            return transfer.merge(connection, runs_folder)

    def copy_to(self, target: Path) -> None:
        """Write the whole store, as it is at this moment, into one new file."""
        with self._database.translating(), closing(sqlite3.connect(target)) as copy:
            self._database.copy_into(copy)

    # The file itself

    def remove_run(self, run_id: str) -> None:
        """Delete a run and all its rows, for good; its folder is the caller's to delete."""
        with self._database.writing() as connection:
            runs.remove_run(connection, run_id)

    def compact(self) -> int:
        """Give the space of deleted rows back to the disk; return how many bytes that was."""
        before = self._database.size()
        self._database.vacuum()
        return before - self._database.size()

    def check(self) -> list[str]:
        """What is wrong with the file, read from end to end; empty when nothing is."""
        with self._database.reading() as connection:
            return repair.check(connection)
