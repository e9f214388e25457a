"""``mft-tui runs export|import|rebuild|gc``: runs that leave, come, are saved, and go for good."""

from collections.abc import Callable
from pathlib import Path
from typing import Annotated

import typer

from mft_tui.cli.output import console, print_json


def export(
    run_ids: Annotated[
        list[str] | None,
        typer.Argument(metavar="[RUN_ID…]", help="Runs to export; all by default."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="The file (archive, store) or the folder; mft-runs… by default."
        ),
    ] = None,
    as_: Annotated[
        str, typer.Option("--as", help="archive, store, csv, json, mlflow or wandb.")
    ] = "archive",
    artifacts: Annotated[bool, typer.Option(help="Include what the runs wrote.")] = True,
) -> None:
    """Export runs: an archive that `runs import` takes on another machine, or other formats.

    An archive holds run folders and what was said about the runs; a store is the whole database and
    no folder.

    \b
    Examples:
      mft-tui runs export 1s09k -o run.tar.gz
      mft-tui runs export --as store -o all.db
      mft-tui runs export 1s09k --as csv -o run/
    """
    from mft_tui.cli.runs_move import default_output, export_runs
    from mft_tui.cli.store import store_to_read

    with store_to_read() as store:
        written = export_runs(
            store, run_ids or [], output or default_output(as_), as_, artifacts=artifacts
        )
    print(written)


def import_(
    sources: Annotated[
        list[Path],
        typer.Argument(
            help="Run folders, folders of them, archives or stores of `runs export`, or another "
            "machine's state folder.",
            show_default=False,
        ),
    ],
    json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
) -> None:
    """Take in runs from elsewhere; one that is here already is not taken in again.

    \b
    Examples:
      mft-tui runs import /mnt/usb/runs/1s09kfn88p
      mft-tui runs import mft-runs.tar.gz
      mft-tui runs import /mnt/other-machine/mft-tui
    """
    from mft_tui.cli.store import opened_store
    from runners.lifecycle.folders import StateFolder
    from runners.lifecycle.portable import import_runs

    with opened_store() as store:
        report = import_runs(store, StateFolder.default(), sources)
    if json:
        print_json(report)
        return
    for taken in report:
        console.print(f"run {taken.run_id}: {taken.outcome}", markup=False)


def rebuild(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only check.")] = False,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
) -> None:
    """Read the store from end to end; with --yes, make a damaged one anew.

    The damaged file is kept beside the new one. Runs come back from their folders; names, notes,
    tags and the trash from what can still be read of the old file.

    \b
    Examples:
      mft-tui runs rebuild
      mft-tui runs rebuild --yes
    """
    from runners.errors import RefusedError
    from runners.lifecycle.folders import StateFolder
    from runners.lifecycle.rebuild import damage
    from runners.lifecycle.rebuild import rebuild as made_anew

    state = StateFolder.default()
    problems = damage(state.database)
    if not problems:
        console.print(f"{state.database} is sound: nothing to do.", markup=False)
        if json:
            print_json({"problems": [], "rebuilt": False})
        return
    for problem in problems:
        console.print(f"damaged: {problem}", markup=False, soft_wrap=True)
    if not yes:
        if json:
            print_json({"problems": problems, "rebuilt": False})
        raise RefusedError(
            "the store is damaged and was left as it is",
            where=str(state.database),
            fix="To make it anew from the run folders: mft-tui runs rebuild --yes",
        )
    done = made_anew(state)
    for sentence in done.unreadable:
        console.print(f"could not be read: {sentence}", markup=False, soft_wrap=True)
    console.print(
        f"{len(done.from_folders)} runs were taken in from their folders, "
        f"{len(done.without_folder)} more from the old store alone.\n"
        f"The old store is {done.aside}",
        markup=False,
        soft_wrap=True,
    )
    if json:
        print_json({"problems": problems, "rebuilt": True, **done.to_json()})


def gc(
    yes: Annotated[bool, typer.Option("--yes", help="Do it; without, only say.")] = False,
    older: Annotated[float, typer.Option(help="Days in the trash, at least.", min=0)] = 0.0,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
) -> None:
    """Say what could be deleted for good (trash, half-copied folders); delete it with --yes.

    \b
    Example:
      mft-tui runs gc --yes
    """
    from mft_tui.cli.runs_move import collect, delete, print_garbage
    from mft_tui.cli.store import opened_store
    from runners.lifecycle.folders import StateFolder

    with opened_store() as store:
        garbage = collect(store, StateFolder.default(), older_days=older)
        if yes:
            delete(store, garbage)
    if json:
        print_json({"deleted": yes, "garbage": garbage})
    else:
        print_garbage(garbage, deleted=yes)


COMMANDS: dict[str, Callable[..., None]] = {
    "export": export,
    "import": import_,
    "rebuild": rebuild,
    "gc": gc,
}
