"""A real store in a folder of the test's own."""

import itertools
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import db

NewRun = Callable[..., db.RunRecord]


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "state" / "mft.db"


@pytest.fixture
def store(path: Path) -> Iterator[db.Store]:
    with db.open_store(path) as opened:
        yield opened


@pytest.fixture
def new_run(store: db.Store) -> NewRun:
    """Inserts a run; each one a minute after the one before."""
    numbers = itertools.count()

    def insert(**fields: object) -> db.RunRecord:
        number = next(numbers)
        at = 1_800_000_000.0 + 60 * number
        given = {"id": db.new_run_id(lambda: at), "kind": "train", "created_at": at, **fields}
        record = db.RunRecord(**given)  # type: ignore[arg-type]
        store.insert_run(record)
        return record

    return insert
