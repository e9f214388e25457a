"""The tags that people hang on runs."""

import re
from collections.abc import Iterable

from sqlalchemy import Connection, delete, func, select

from db import tables
from db.errors import QueryError
from db.runs import require_run

_TAG = re.compile(r"[^\s,\"()*]{1,64}")


def tag(connection: Connection, run_id: str, names: Iterable[str]) -> None:
    """Hang tags on a run; one that hangs there already stays. Raises ``QueryError`` for a name
    that a filter could not name."""
    require_run(connection, run_id)
    for name in names:
        if not _TAG.fullmatch(name):
            raise QueryError(
                f"{name!r} cannot be a tag",
                fix="A tag has 1 to 64 characters, and no white space, comma, quote, star or "
                "parenthesis.",
            )
        connection.exec_driver_sql(
            "INSERT OR IGNORE INTO tag (run_id, name) VALUES (?, ?)", (run_id, name)
        )


def untag(connection: Connection, run_id: str, names: Iterable[str]) -> list[str]:
    """Take tags off a run; return those that did hang there."""
    require_run(connection, run_id)
    name = tables.tag.c.name
    here = (tables.tag.c.run_id == run_id) & name.in_(list(names))
    found = list(connection.execute(select(name).where(here).order_by(name)).scalars())
    connection.execute(delete(tables.tag).where(here))
    return found


def tags(connection: Connection, run_id: str) -> list[str]:
    """The tags of a run, in alphabetical order."""
    t = tables.tag.c
    rows = connection.execute(select(t.name).where(t.run_id == run_id).order_by(t.name))
    return list(rows.scalars())


def all_tags(connection: Connection) -> dict[str, int]:
    """Every tag there is, and how many runs have it."""
    name = tables.tag.c.name
    rows = connection.execute(
        select(name, func.count().label("runs")).group_by(name).order_by(name)
    )
    return {row.name: row.runs for row in rows}
