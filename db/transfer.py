"""Runs that travel: the card that goes with a run folder, and one store taken into another.

A run folder holds everything a job said; what people said about the run (name, note, tags) and how
it ended is only in the store. The card is that, as JSON, so that folder and card together are the
run. Taking the same thing in again changes nothing.
"""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from types import NoneType, UnionType
from typing import Any, get_args, get_type_hints

from sqlalchemy import Connection, text

from db import tables
from db.errors import DuplicateRunError, StoreError
from db.labels import tag, tags
from db.records import STATUSES, RunRecord
from db.results import sum_up_scores
from db.runs import exact_run, find_run, insert_run

_CARD_VERSION = 1
_RUN_ID = re.compile(r"[0-9a-z]{1,32}")
_CHILDREN = ("artifact", "tag", "task_score", "verdict", "notice")


@dataclass(frozen=True)
class Merged:
    """What taking another store in did, run ids by outcome. ``conflicts`` are different runs that
    happen to have one id; those of this store were kept."""

    added: tuple[str, ...]
    updated: tuple[str, ...]
    unchanged: tuple[str, ...]
    conflicts: tuple[str, ...]


def run_card(connection: Connection, run_id: str) -> dict[str, Any]:
    """What the store knows of a run and its folder does not, ready for JSON."""
    record = find_run(connection, run_id)
    return {"card": _CARD_VERSION, "run": asdict(record), "tags": tags(connection, record.id)}


def import_card(connection: Connection, card: Mapping[str, Any], folder: Path) -> bool:
    """Add the run of a card, its folder now being ``folder``; return whether it was new.

    Its events are still to be read in. Raises ``StoreError`` for a card that is none, and
    ``DuplicateRunError`` when another run has the id.
    """
    record = replace(
        _record(card),
        folder=str(folder),
        events_offset=0,
        events_seq=0,
        trashed_at=None,
        pass_at_1=None,
        scored=0,
    )
    here = exact_run(connection, record.id)
    if here is not None:
        if (here.created_at, here.kind) != (record.created_at, record.kind):
            raise DuplicateRunError(
                f"another run (a {here.kind}) has that id here", where=record.id
            )
        return False
    insert_run(connection, record)
    tag(connection, record.id, [name for name in card.get("tags", []) if isinstance(name, str)])
    return True


def merge(connection: Connection, runs_folder: Path | None = None) -> Merged:
    """Take in the runs of the store that is attached as ``other``, which has the same schema.

    A run that is here keeps what people said about it here, and gets the other's results when more
    of its events were read there. ``runs_folder`` is where the folders of new runs will be.
    """
    theirs = {row.id: row for row in connection.execute(text(_SELECT_POSITION.format("other")))}
    ours = {row.id: row for row in connection.execute(text(_SELECT_POSITION.format("main")))}
    added = sorted(theirs.keys() - ours.keys())
    both = sorted(theirs.keys() & ours.keys())
    conflicts = [
        i
        for i in both
        if (theirs[i].created_at, theirs[i].kind) != (ours[i].created_at, ours[i].kind)
    ]
    updated = [i for i in both if theirs[i].seq > ours[i].seq and i not in conflicts]
    unchanged = sorted(set(both) - set(updated) - set(conflicts))
    connection.execute(
        text("INSERT OR IGNORE INTO main.metric_key (name) SELECT name FROM other.metric_key")
    )
    for run_id in added:
        _copy(connection, "run", run_id)
        if runs_folder is not None:
            connection.execute(
                text("UPDATE main.run SET folder = :folder WHERE id = :run"),
                {"folder": str(runs_folder / run_id), "run": run_id},
            )
    for run_id in updated:
        _take_results(connection, run_id)
    for run_id in added + updated:
        for table in _CHILDREN:
            if table != "tag" or run_id in added:
                _copy(connection, table, run_id)
        for table in ("metric", "latest_metric"):
            connection.execute(text(_COPY_SERIES.format(table)), {"run": run_id})
        sum_up_scores(connection, run_id)
    return Merged(tuple(added), tuple(updated), tuple(unchanged), tuple(conflicts))


_SELECT_POSITION = "SELECT id, kind, created_at, events_seq AS seq FROM {}.run"
_COPY_SERIES = (
    "INSERT OR REPLACE INTO main.{0} (run_id, key_id, step, value, flag, at) "
    "SELECT run_id, ours.id, step, value, flag, at FROM other.{0} AS theirs "
    "JOIN other.metric_key AS named ON named.id = theirs.key_id "
    "JOIN main.metric_key AS ours ON ours.name = named.name WHERE run_id = :run"
)
_PEOPLES = frozenset({"id", "name", "note", "folder", "trashed_at"})


def _copy(connection: Connection, table: str, run_id: str) -> None:
    names = ", ".join(f'"{name}"' for name in tables.Entity.metadata.tables[table].c.keys())  # noqa: SIM118
    key = "id" if table == "run" else "run_id"
    connection.execute(
        text(
            f"INSERT OR REPLACE INTO main.{table} ({names}) "  # noqa: S608 - names of our tables
            f"SELECT {names} FROM other.{table} WHERE {key} = :run"
        ),
        {"run": run_id},
    )


def _take_results(connection: Connection, run_id: str) -> None:
    """Overwrite what the machines say about a run, and leave what people say."""
    names = [f'"{name}"' for name in tables.run.c.keys() if name not in _PEOPLES]  # noqa: SIM118
    changes = ", ".join(f"{name} = theirs.{name}" for name in names)
    connection.execute(
        text(
            f"UPDATE main.run AS ours SET {changes} FROM other.run AS theirs "  # noqa: S608 - names of our columns
            "WHERE theirs.id = ours.id AND ours.id = :run"
        ),
        {"run": run_id},
    )


def _record(card: Mapping[str, Any]) -> RunRecord:
    """The record on a card; what a newer version added is passed over."""
    given = card.get("run")
    if not isinstance(given, Mapping):
        raise _bad_card("it has no run")
    hints = get_type_hints(RunRecord)
    known = {f.name: given[f.name] for f in fields(RunRecord) if f.name in given}
    for name, value in known.items():
        if not isinstance(value, _accepted(hints[name])) or isinstance(value, bool):
            raise _bad_card(f"its {name} is {value!r}")
    if not _RUN_ID.fullmatch(str(known.get("id", ""))) or not known.get("kind"):
        raise _bad_card("it has no proper id and kind")
    if known.get("status", "queued") not in STATUSES:
        raise _bad_card(f"its status is {known['status']!r}")
    return RunRecord(**known)


def _accepted(hint: Any) -> tuple[type, ...]:
    kinds = get_args(hint) if isinstance(hint, UnionType) else (hint,)
    return tuple(
        accepted for kind in kinds for accepted in ((int, float) if kind is float else (kind,))
    ) or (NoneType,)


def _bad_card(why: str) -> StoreError:
    return StoreError(
        f"this is no run that was exported by mft-tui: {why}",
        fix="Export it again with `mft-tui runs export`.",
    )
