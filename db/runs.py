"""Rows of ``run``: finding them by id or prefix, and changing them."""

from collections.abc import Collection, Mapping
from dataclasses import asdict
from typing import Any

from sqlalchemy import Connection, Row, delete, insert, select, update
from sqlalchemy.exc import IntegrityError

from db import tables
from db.errors import AmbiguousRunError, DuplicateRunError, RunNotFoundError
from db.records import STATUSES, RunRecord

_SHOWN_CANDIDATES = 5


def record_of(row: Row[Any]) -> RunRecord:
    """A row of ``run`` as the record it stands for."""
    return RunRecord(**row._mapping)


def insert_run(connection: Connection, record: RunRecord) -> None:
    """Add a run. Raises ``DuplicateRunError``."""
    try:
        connection.execute(insert(tables.run).values(**asdict(record)))
    except IntegrityError as error:
        raise DuplicateRunError("a run of that id is there already", where=record.id) from error


def find_run(connection: Connection, given: str) -> RunRecord:
    """The run whose id is ``given``, or begins with it and no other does.

    Raises ``RunNotFoundError`` or ``AmbiguousRunError``.
    """
    prefix = given.strip().lower()
    ids = tables.run.c.id
    # A range, so that the index is used; "{" is the character after "z".
    begins = (ids >= prefix) & (ids < prefix + "{")
    found = connection.execute(
        select(tables.run).where(begins).order_by(ids).limit(_SHOWN_CANDIDATES + 1)
    ).all()
    if prefix and found and (len(found) == 1 or found[0].id == prefix):
        return record_of(found[0])
    if not prefix or not found:
        raise RunNotFoundError(
            f"no run has the id {given!r}, nor one that begins so",
            fix="`mft-tui runs list` shows the ids.",
        )
    shown = [f"{row.id} ({row.name or row.kind})" for row in found[:_SHOWN_CANDIDATES]]
    more = ", …" if len(found) > _SHOWN_CANDIDATES else ""
    raise AmbiguousRunError(
        f"several runs have an id that begins with {given!r}: {', '.join(shown)}{more}",
        fix="Type one character more.",
    )


def exact_run(connection: Connection, run_id: str) -> RunRecord | None:
    """The run of that whole id, if there is one."""
    row = connection.execute(select(tables.run).where(tables.run.c.id == run_id)).first()
    return None if row is None else record_of(row)


def remove_run(connection: Connection, run_id: str) -> None:
    """Delete a run and every row that belongs to it. Raises ``RunNotFoundError``."""
    if not connection.execute(delete(tables.run).where(tables.run.c.id == run_id)).rowcount:
        raise RunNotFoundError("there is no such run", where=run_id)


def update_run(
    connection: Connection,
    run_id: str,
    fields: Mapping[str, Any],
    *,
    expected: Collection[str] | None = None,
) -> bool:
    """Set columns of one run, only if its status is among ``expected`` where that is given.

    Returns whether it was done. Raises ``RunNotFoundError``.
    """
    if fields.get("status", "queued") not in STATUSES:
        raise ValueError(f"{fields['status']!r} is no status: {', '.join(STATUSES)}")
    change = update(tables.run).where(tables.run.c.id == run_id)
    if expected is not None:
        change = change.where(tables.run.c.status.in_(expected))
    if connection.execute(change.values(**fields)).rowcount:
        return True
    require_run(connection, run_id)
    return False


def require_run(connection: Connection, run_id: str) -> None:
    """Raise ``RunNotFoundError`` unless there is a run of that whole id."""
    if not connection.execute(select(tables.run.c.id).where(tables.run.c.id == run_id)).first():
        raise RunNotFoundError("there is no such run", where=run_id)


def children(connection: Connection, run_id: str) -> list[RunRecord]:
    """The runs that continue this one, oldest first."""
    rows = connection.execute(
        select(tables.run)
        .where(tables.run.c.parent_id == run_id)
        .order_by(tables.run.c.created_at, tables.run.c.id)
    )
    return [record_of(row) for row in rows]
