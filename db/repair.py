"""When the file is broken: finding out, saving what can be read, and making room for a new store.

The run folders hold the runs; a store can always be made again from them. What only the store had
(names, notes, tags) is read row by row, past the rows that cannot be read any more.
"""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from sqlalchemy import Connection
from sqlalchemy.exc import DatabaseError

from db.records import RunRecord

_MOST_PROBLEMS = 20


@dataclass(frozen=True)
class Salvaged:
    """What could be read of a broken store: a card for each run (``db.transfer``), and what could
    not."""

    cards: tuple[dict[str, Any], ...]
    problems: tuple[str, ...]


def check(connection: Connection) -> list[str]:
    """What is wrong with the file; empty when nothing is."""
    try:
        found = connection.exec_driver_sql(f"PRAGMA integrity_check({_MOST_PROBLEMS})").scalars()
        problems = [str(line) for line in found if line != "ok"]
        # A broken page would end this search, so it is only for files that are whole.
        if problems:
            return problems
        strays = connection.exec_driver_sql("PRAGMA foreign_key_check").fetchmany(_MOST_PROBLEMS)
    except DatabaseError as error:
        return [str(error.orig)]
    return [f"a row of {row[0]} belongs to no {row[2]}" for row in strays]


def set_aside(path: Path) -> Path:
    """Move a store and its logs out of the way; return where the file is now."""
    stamp = datetime.now(UTC).strftime("%Y%m%dT%H%M%S")
    target = path.with_name(f"{path.name}.damaged-{stamp}")
    for suffix in ("-wal", "-shm", ""):
        part = path.with_name(path.name + suffix)
        if part.exists():
            part.rename(target.with_name(target.name + suffix))
    return target


def salvage(path: Path) -> Salvaged:
    """Read what can be read of the runs in a broken store. Never raises for a broken one."""
    problems: list[str] = []
    cards: list[dict[str, Any]] = []
    try:
        with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=ro", uri=True)) as file:
            file.row_factory = sqlite3.Row
            file.text_factory = lambda raw: raw.decode("utf-8", "replace")
            tags = _tags(file, problems)
            for row in _runs(file, problems):
                run = {f.name: row[f.name] for f in fields(RunRecord) if f.name in row.keys()}  # noqa: SIM118
                cards.append({"card": 1, "run": run, "tags": tags.get(row["id"], [])})
    except sqlite3.Error as error:
        problems.append(str(error))
    return Salvaged(tuple(cards), tuple(dict.fromkeys(problems)))


def _runs(file: sqlite3.Connection, problems: list[str]) -> Iterator[sqlite3.Row]:
    """Each run that can be read, by row number: a broken page costs its own rows only."""
    try:
        last = file.execute("SELECT max(rowid) FROM run").fetchone()[0] or 0
    except sqlite3.Error as error:
        problems.append(str(error))
        return
    for number in range(1, last + 1):
        try:
            row = file.execute("SELECT * FROM run WHERE rowid = ?", (number,)).fetchone()
        except sqlite3.Error as error:
            problems.append(f"run number {number}: {error}")
            continue
        if row is not None:
            yield row


def _tags(file: sqlite3.Connection, problems: list[str]) -> dict[str, list[str]]:
    tags: dict[str, list[str]] = {}
    try:
        for run_id, name in file.execute("SELECT run_id, name FROM tag"):
            tags.setdefault(run_id, []).append(name)
    except sqlite3.Error as error:
        problems.append(f"tags: {error}")
    return tags
