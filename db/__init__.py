"""What is remembered: runs, their metrics, scores, verdicts and artifacts, in one SQLite file.

Importing this package is cheap; the database library is loaded by the first ``open_store``.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from db.errors import (
    AmbiguousRunError,
    DuplicateRunError,
    QueryError,
    RunNotFoundError,
    StoreBusyError,
    StoreDamagedError,
    StoreError,
    StoreFullError,
    StoreMissingError,
    StoreNewerError,
    StoreReadOnlyError,
)
from db.ids import new_run_id
from db.records import (
    LIVE_STATUSES,
    STATUSES,
    ArtifactRecord,
    MetricPoint,
    NoticeRecord,
    Page,
    RunQuery,
    RunRecord,
    RunRow,
    ScoreRecord,
    Series,
    VerdictRecord,
)

if TYPE_CHECKING:
    from db.store import Store
    from db.writer import RunWriter


def open_store(path: Path, *, read_only: bool = False) -> "Store":
    """Open the store at ``path``; make it, or bring it up to date (with a backup), where needed.

    ``Store.warnings`` holds what a person should know about this store. Raises ``StoreError`` or
    one of its kin.
    """
    from db import opening

    return opening.open_store(path, read_only=read_only)


def __getattr__(name: str) -> object:
    if name == "Store":
        from db.store import Store

        return Store
    if name == "RunWriter":
        from db.writer import RunWriter

        return RunWriter
    raise AttributeError(f"module 'db' has no attribute {name!r}")


__all__ = [
    "LIVE_STATUSES",
    "STATUSES",
    "AmbiguousRunError",
    "ArtifactRecord",
    "DuplicateRunError",
    "MetricPoint",
    "NoticeRecord",
    "Page",
    "QueryError",
    "RunNotFoundError",
    "RunQuery",
    "RunRecord",
    "RunRow",
    "RunWriter",
    "ScoreRecord",
    "Series",
    "Store",
    "StoreBusyError",
    "StoreDamagedError",
    "StoreError",
    "StoreFullError",
    "StoreMissingError",
    "StoreNewerError",
    "StoreReadOnlyError",
    "VerdictRecord",
    "new_run_id",
    "open_store",
]
