"""``mft-tui runs``: past and present runs, listed, shown, labelled and thrown away.

The commands that need more than a few lines have modules of their own beside this one, which are
imported when they run.
"""

import csv
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from mft_tui.cli.output import console, print_json
from mft_tui.cli.tables import print_table
from mft_tui.cli.watch import RunId

if TYPE_CHECKING:
    from db import Page, RunRow, Store

app = typer.Typer(
    help="List, show, compare, tag and move past runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)

COLUMNS = ("id", "kind", "name", "status", "created", "took", "progress", "pass@1", "tags")
"""What ``runs list`` shows when no columns are asked for."""


@app.command("list")
def list_runs(
    filter_: Annotated[
        str,
        typer.Argument(
            metavar="[FILTER]", help="Such as: status:finished kind:train loss<1.2 since:7d"
        ),
    ] = "",
    sort: Annotated[
        str, typer.Option(help="Column or metric; a minus in front for descending.")
    ] = "-created_at",
    columns: Annotated[
        str | None, typer.Option(help="Columns and metric keys, comma separated.")
    ] = None,
    limit: Annotated[int, typer.Option("--limit", "-n", min=1)] = 50,
    offset: Annotated[int, typer.Option(min=0)] = 0,
    trash: Annotated[bool, typer.Option("--trash", help="Only what is in the trash.")] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON list on stdout.")] = False,
    csv_: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
) -> None:
    """List runs, newest first.

    \b
    Examples:
      mft-tui runs list
      mft-tui runs list "status:finished kind:train loss<1.2 since:7d" --sort loss
      mft-tui runs list "tag:best AND NOT data:mbpp" --columns id,name,loss,pass@1 --csv
    """
    from db import RunQuery

    query = RunQuery(
        filter=filter_,
        sort=sort,
        limit=limit,
        offset=offset,
        trash="only" if trash else "hide",
    )
    page = read_page(query)
    shown = tuple(columns.split(",")) if columns else COLUMNS
    if json:
        print_json([plain_row(row) for row in page.rows])
    elif csv_:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(shown)
        writer.writerows([cell(row, column) for column in shown] for row in page.rows)
    else:
        _print_table(page, shown)


def read_page(query: Any) -> "Page":
    """The runs, after the dead among them have been found; of a read-only store, as it stands."""
    from db import StoreReadOnlyError, open_store
    from runners.lifecycle.folders import StateFolder
    from runners.lifecycle.liveness import refresh

    database = StateFolder.default().database
    try:
        with open_store(database) as store:
            _warn(store)
            refresh(store)
            return store.list_runs(query)
    except StoreReadOnlyError as error:
        console.print(f"warning: {error.what}; shown as it was last written", markup=False)
    with open_store(database, read_only=True) as store:
        return store.list_runs(query)


def _warn(store: "Store") -> None:
    for warning in store.warnings:
        console.print(f"warning: {warning}", markup=False)


def plain_row(row: "RunRow") -> dict[str, Any]:
    """A run for JSON: its columns, tags, latest metrics and scores."""
    from dataclasses import asdict

    run = asdict(row.run)
    for name in ("config", "command", "summary"):
        run.pop(name)
    return {
        **run,
        "shown_status": _shown_status(row),
        "tags": list(row.tags),
        "metrics": dict(row.metrics),
        "scores": dict(row.scores),
        "pass_at_1": row.pass_at_1,
    }


def _shown_status(row: "RunRow") -> str:
    from runners.lifecycle.liveness import shown_status
    from runners.lifecycle.processes import Machine

    return shown_status(row.run, Machine.here(), time.time())


def cell(row: "RunRow", column: str) -> str:
    """One cell of a list as text; a name that is no column is a metric's."""
    from mft_tui.cli.following import shown_seconds

    run = row.run
    match column:
        case "status":
            return _shown_status(row)
        case "created":
            return time.strftime("%Y-%m-%d %H:%M", time.localtime(run.created_at))
        case "took":
            end = run.ended_at or (time.time() if run.status in {"running", "stopping"} else None)
            return shown_seconds(end - run.started_at) if end and run.started_at else ""
        case "progress":
            if run.done is None:
                return ""
            of = f"/{run.total:,}" if run.total is not None else ""
            return f"{run.stage} {run.done:,}{of}"
        case "pass@1":
            return "" if row.pass_at_1 is None else f"{row.pass_at_1:.3f}"
        case "tags":
            return " ".join(row.tags)
        case _ if column.startswith("pass@1."):
            score = row.scores.get(column.removeprefix("pass@1."))
            return "" if score is None else f"{score:.3f}"
        case _ if column in row.metrics:
            return f"{row.metrics[column]:.6g}"
    value = getattr(run, column, None)
    return "" if value is None else str(value)


def _print_table(page: "Page", columns: tuple[str, ...]) -> None:
    from rich.table import Table

    if not page.rows:
        console.print("No runs." if page.total == 0 else f"No more than {page.total} runs.")
        return
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(column, no_wrap=column not in {"name", "tags"}, overflow="fold")
    for row in page.rows:
        table.add_row(*(cell(row, column) for column in columns), style=_style(row))
    print_table(table)
    if page.total > len(page.rows):
        first = page.offset + 1
        console.print(
            f"{first} to {page.offset + len(page.rows)} of {page.total} (--limit, --offset)"
        )


def _style(row: "RunRow") -> str:
    return {"running": "green", "crashed": "red", "failed": "red", "stopping": "yellow"}.get(
        row.run.status, ""
    )


@app.command("show")
def show(
    run_id: RunId,
    json: Annotated[
        bool, typer.Option("--json", help="Everything, the whole series included, as JSON.")
    ] = False,
) -> None:
    """Show one run: status, times, lineage, launch line, data, losses, scores, artifacts, config.

    \b
    Example:
      mft-tui runs show 1s09k
    """
    from mft_tui.cli.launching import opened_store
    from mft_tui.cli.runs_show import print_run, run_to_json
    from runners.lifecycle.liveness import refresh_run

    with opened_store() as store:
        run = refresh_run(store, store.get_run(run_id))
        if json:
            print_json(run_to_json(store, run))
        else:
            print_run(store, run)


@app.command("tag")
def tag(
    run_id: RunId,
    names: Annotated[list[str], typer.Argument(help="Tags to hang on it.", show_default=False)],
    remove: Annotated[bool, typer.Option("--remove", help="Take them off instead.")] = False,
) -> None:
    """Hang tags on a run, or take them off.

    \b
    Examples:
      mft-tui runs tag 1s09k best baseline
      mft-tui runs tag 1s09k baseline --remove
    """
    from mft_tui.cli.launching import opened_store

    with opened_store() as store:
        run = store.get_run(run_id)
        if remove:
            store.untag(run.id, names)
        else:
            store.tag(run.id, names)
        console.print(f"run {run.id}: {' '.join(store.tags(run.id)) or 'no tags'}", markup=False)


@app.command("note")
def note(
    run_id: RunId,
    text: Annotated[
        str | None, typer.Argument(help='The note; "" removes it; none prints it.')
    ] = None,
) -> None:
    """Write a note on a run, or print the one it has.

    \b
    Example:
      mft-tui runs note 1s09k "min_lr was too high"
    """
    from mft_tui.cli.launching import opened_store

    with opened_store() as store:
        run = store.get_run(run_id)
        if text is None:
            print(run.note)
        else:
            store.set_note(run.id, text)


@app.command("rename")
def rename(
    run_id: RunId,
    name: Annotated[str, typer.Argument(help="The new name.", show_default=False)],
) -> None:
    """Give a run another name.

    \b
    Example:
      mft-tui runs rename 1s09k "qwen 1.5b, case3"
    """
    from mft_tui.cli.launching import opened_store

    with opened_store() as store:
        store.rename(store.get_run(run_id).id, name)


@app.command("rm")
def remove(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_ID…", show_default=False)],
    restore: Annotated[
        bool, typer.Option("--restore", help="Take them out of the trash again.")
    ] = False,
) -> None:
    """Move runs to the trash; nothing is deleted until `runs gc --yes`.

    \b
    Example:
      mft-tui runs rm 1s09k 1s0aa
    """
    from mft_tui.cli.launching import opened_store
    from runners.errors import RefusedError
    from runners.lifecycle.liveness import refresh_run
    from runners.lifecycle.status import LIVE

    with opened_store() as store:
        for run_id in run_ids:
            run = refresh_run(store, store.get_run(run_id))
            if restore:
                store.restore(run.id)
                continue
            if run.status in LIVE:
                raise RefusedError(
                    f"the run is {run.status}",
                    where=run.id,
                    fix=f"Stop it first: mft-tui stop {run.id}",
                )
            store.trash(run.id)
            console.print(f"run {run.id} is in the trash", markup=False)


@app.command("compare")
def compare(
    run_ids: Annotated[list[str], typer.Argument(metavar="RUN_ID…", show_default=False)],
    json: Annotated[bool, typer.Option("--json", help="The comparison as JSON.")] = False,
) -> None:
    """Compare runs: settings that differ, metrics, pass@1 by task, questions that flipped.

    \b
    Example:
      mft-tui runs compare 1s09k 1s0aa
    """
    from mft_tui.cli.launching import opened_store
    from mft_tui.cli.runs_compare import comparison_to_json, print_comparison
    from runners.errors import UsageError

    if len(run_ids) < 2:
        raise UsageError("a comparison needs two runs or more")
    with opened_store() as store:
        comparison = store.compare(run_ids)
    if json:
        print_json(comparison_to_json(comparison))
    else:
        print_comparison(comparison)


@app.command("export")
def export(
    run_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN_ID…]", help="Runs to export; all by default."),
    ] = None,
    output: Annotated[
        Path, typer.Option("--output", "-o", help="The file, or folder with --as csv.")
    ] = Path("mft-runs.tar.gz"),
    as_: Annotated[
        str, typer.Option("--as", help="archive, csv, json, mlflow or wandb.")
    ] = "archive",
    artifacts: Annotated[bool, typer.Option(help="Include what the runs wrote.")] = True,
) -> None:
    """Export runs: an archive that `runs import` takes on another machine, or other formats.

    \b
    Examples:
      mft-tui runs export 1s09k -o run.tar.gz
      mft-tui runs export 1s09k --as csv -o run/
    """
    from mft_tui.cli.launching import opened_store
    from mft_tui.cli.runs_move import export_runs

    with opened_store() as store:
        written = export_runs(store, run_ids or [], output, as_, artifacts=artifacts)
    print(written)


@app.command("import")
def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, folders of them, or archives of `runs export`.", show_default=False
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
) -> None:
    """Take in runs from elsewhere; one that is here already is not taken in again.

    \b
    Examples:
      mft-tui runs import /mnt/usb/runs/1s09kfn88p
      mft-tui runs import mft-runs.tar.gz
    """
    from mft_tui.cli.launching import opened_store
    from runners.lifecycle.folders import StateFolder
    from runners.lifecycle.portable import import_runs

    with opened_store() as store:
        report = import_runs(store, StateFolder.default(), sources)
    if json:
        print_json(report)
        return
    for taken in report:
        console.print(f"run {taken.run_id}: {taken.outcome}", markup=False)


@app.command("gc")
def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say.")] = False,
    older: Annotated[float, typer.Option(help="Days in the trash, at least.", min=0)] = 0.0,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
) -> None:
    """Say what could be deleted for good (trash, folders of no run); delete it with --yes.

    \b
    Example:
      mft-tui runs gc --yes
    """
    from mft_tui.cli.launching import opened_store
    from mft_tui.cli.runs_move import collect, delete, print_garbage
    from runners.lifecycle.folders import StateFolder

    with opened_store() as store:
        garbage = collect(store, StateFolder.default(), older_days=older)
        if yes:
            delete(store, garbage)
    if json:
        print_json({"deleted": yes, "garbage": garbage})
    else:
        print_garbage(garbage, deleted=yes)
