"""``mft-tui runs``: past and present runs, listed, shown, compared, labelled, moved, thrown away.

Here are the commands that look; those that change something are in ``runs_labels`` and
``runs_travel``. What needs more than a few lines stands in modules that are imported when a command
runs.
"""

from typing import Annotated

import typer

from mft_tui.cli import runs_labels, runs_travel
from mft_tui.cli.output import print_json
from mft_tui.cli.watch import RunId

app = typer.Typer(
    help="List, show, compare, tag and move past runs.",
    no_args_is_help=True,
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


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
    fields: Annotated[
        bool, typer.Option("--fields", help="Print what a filter may name, and what it means.")
    ] = False,
    json: Annotated[bool, typer.Option("--json", help="A JSON list on stdout.")] = False,
    csv: Annotated[bool, typer.Option("--csv", help="CSV on stdout.")] = False,
) -> None:
    """List runs, newest first.

    A filter is words joined by AND (or nothing), OR and NOT, with parentheses; --fields tells them.

    \b
    Examples:
      mft-tui runs list
      mft-tui runs list "status:finished kind:train loss<1.2 since:7d" --sort loss
      mft-tui runs list "tag:best AND NOT data:mbpp" --columns id,name,loss,pass@1 --csv
    """
    from db import RunQuery
    from mft_tui.cli import runs_list
    from mft_tui.cli.store import seen_all, store_to_read

    if fields:
        runs_list.print_fields()
        return
    query = RunQuery(
        filter=filter_,
        sort=sort,
        limit=limit,
        offset=offset,
        trash="only" if trash else "hide",
    )
    with store_to_read() as store:
        seen_all(store)
        page = store.list_runs(query)
    shown = tuple(columns.split(",")) if columns else runs_list.COLUMNS
    if json:
        print_json([runs_list.plain_row(row) for row in page.rows])
    elif csv:
        runs_list.print_csv(page, shown)
    else:
        runs_list.print_page(page, shown)


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
    from mft_tui.cli.runs_show import print_run, run_to_json
    from mft_tui.cli.store import seen, store_to_read

    with store_to_read() as store:
        run = seen(store, run_id)
        if json:
            print_json(run_to_json(store, run))
        else:
            print_run(store, run)


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
    from mft_tui.cli.runs_compare import comparison_to_json, print_comparison
    from mft_tui.cli.store import store_to_read
    from runners.errors import UsageError

    if len(run_ids) < 2:
        raise UsageError("a comparison needs two runs or more")
    with store_to_read() as store:
        comparison = store.compare(run_ids)
    if json:
        print_json(comparison_to_json(comparison))
    else:
        print_comparison(comparison)


for _name, _command in (*runs_labels.COMMANDS.items(), *runs_travel.COMMANDS.items()):
    app.command(_name)(_command)
