"""Runs that leave: archives, other trackers' formats, and the trash emptied."""

import csv
import shutil
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mft_tui.cli.output import console
from runners.errors import UsageError
from runners.lifecycle.folders import RunFolder, StateFolder
from runners.lifecycle.portable import pack

if TYPE_CHECKING:
    from db import RunRecord, Store

_ALL = 2**31
_FOLDER_FORMS = frozenset({"csv", "json", "mlflow", "wandb"})
_TAR_NAMES = (".tar.gz", ".tgz")


def export_runs(
    store: "Store", run_ids: list[str], output: Path, form: str, *, artifacts: bool
) -> Path:
    """Write runs to ``output`` and return it. Raises ``UsageError`` for a form that is none.

    ``store`` is the whole database in one file, whatever runs are named, so none may be. ``mlflow``
    writes into the tracking folder ``output``, ``wandb`` offline runs below it; each
    through the library of that name, which must be installed.
    """
    if form == "store":
        return _copy_store(store, run_ids, output)
    runs = [store.get_run(run_id) for run_id in run_ids] if run_ids else _all_runs(store)
    if not runs:
        raise UsageError("there are no runs to export")
    if form == "archive":
        if not output.name.endswith(_TAR_NAMES):
            raise UsageError("an archive is a .tar.gz file", where=str(output))
        folders = [RunFolder(Path(run.folder)) for run in runs]
        return pack(store, folders, output, artifacts=artifacts)
    if form not in _FOLDER_FORMS:
        raise _no_format(form)
    output.mkdir(parents=True, exist_ok=True)
    for run in runs:
        if form == "csv":
            _write_csv(store, run, output)
        elif form == "json":
            _write_json(store, run, output)
        else:
            from mft_tui.cli.trackers import EXPORTERS

            EXPORTERS[form](store, run, output)
    return output


def default_output(form: str) -> Path:
    """Where an export goes that was told no place. Raises ``UsageError`` for no known form."""
    suffixes = {"archive": ".tar.gz", "store": ".db"}
    if form not in {*suffixes, *_FOLDER_FORMS}:
        raise _no_format(form)
    return Path(f"mft-runs{suffixes.get(form, f'-{form}')}")


def _no_format(form: str) -> UsageError:
    return UsageError(
        f"{form!r} is no format", where="--as", fix="archive, store, csv, json, mlflow or wandb."
    )


def _copy_store(store: "Store", run_ids: list[str], output: Path) -> Path:
    if run_ids:
        raise UsageError("a store is exported whole", where="--as store", fix="Name no runs.")
    if output.exists():
        raise UsageError("this file is there already", where=str(output), fix="Choose another.")
    store.copy_to(output)
    return output


def _all_runs(store: "Store") -> "list[RunRecord]":
    from db import RunQuery

    return [row.run for row in store.list_runs(RunQuery(limit=_ALL)).rows]


def _write_csv(store: "Store", run: "RunRecord", output: Path) -> None:
    """``{id}_metrics.csv`` (step, key, value, at) and ``{id}_scores.csv``."""
    with (output / f"{run.id}_metrics.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("step", "key", "value", "at"))
        for key in sorted(store.latest_metrics(run.id)):
            for point in store.series(run.id, key, _ALL).points:
                writer.writerow((point.step, key, repr(point.value), repr(point.at)))
    with (output / f"{run.id}_scores.csv").open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(("task", "passed", "total", "pass@1"))
        for score in store.scores(run.id):
            writer.writerow((score.task, score.passed, score.total, repr(score.pass_at_1)))


def _write_json(store: "Store", run: "RunRecord", output: Path) -> None:
    import msgspec

    from mft_tui.cli.runs_show import run_to_json

    content = msgspec.json.format(msgspec.json.encode(run_to_json(store, run)), indent=2)
    (output / f"{run.id}.json").write_bytes(content + b"\n")


@dataclass(frozen=True)
class Garbage:
    """Something that could be deleted: a run in the trash, or a folder that no run has."""

    run_id: str | None
    path: str
    bytes: int


def collect(
    store: "Store", state: StateFolder, *, older_days: float, clock: float | None = None
) -> list[Garbage]:
    """What could be deleted: runs in the trash for ``older_days``, and half-copied folders."""
    from db import RunQuery

    now = time.time() if clock is None else clock
    found = []
    for row in store.list_runs(RunQuery(limit=_ALL, trash="only")).rows:
        run = row.run
        if run.trashed_at is not None and now - run.trashed_at >= older_days * 86_400:
            found.append(Garbage(run.id, run.folder, _size(Path(run.folder))))
    if state.runs.is_dir():
        parts = sorted(state.runs.glob(".*.part"))
        found += [Garbage(None, str(path), _size(path)) for path in parts]
    return found


def delete(store: "Store", garbage: list[Garbage]) -> None:
    """Delete it: the row last, so that what is left after a failure is still listed."""
    for item in garbage:
        path = Path(item.path)
        if path.is_dir():
            shutil.rmtree(path)
        if item.run_id is not None:
            store.remove_run(item.run_id)


def _size(path: Path) -> int:
    return sum(p.stat().st_size for p in path.rglob("*") if p.is_file()) if path.is_dir() else 0


def print_garbage(garbage: list[Garbage], *, deleted: bool) -> None:
    """Say what was, or could be, deleted."""
    for item in garbage:
        console.print(f"{item.run_id or 'no run'}  {item.bytes:,} bytes  {item.path}", markup=False)
    total = sum(item.bytes for item in garbage)
    if not garbage:
        console.print("Nothing to delete.")
    elif deleted:
        console.print(f"Deleted {len(garbage)}, {total:,} bytes.")
    else:
        console.print(f"{len(garbage)} could go, {total:,} bytes: mft-tui runs gc --yes")
