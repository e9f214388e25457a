"""``mft-tui runs tag|note|rename|rm``: what people say about runs, the trash included."""

from collections.abc import Callable
from typing import Annotated

import typer

from mft_tui.cli.output import console
from mft_tui.cli.watch import RunId


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
    from mft_tui.cli.store import opened_store

    with opened_store() as store:
        run = store.get_run(run_id)
        if remove:
            store.untag(run.id, names)
        else:
            store.tag(run.id, names)
        console.print(f"run {run.id}: {' '.join(store.tags(run.id)) or 'no tags'}", markup=False)


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
    from mft_tui.cli.store import opened_store, store_to_read

    if text is None:
        with store_to_read() as store:
            print(store.get_run(run_id).note)
        return
    with opened_store() as store:
        store.set_note(store.get_run(run_id).id, text)


def rename(
    run_id: RunId,
    name: Annotated[str, typer.Argument(help="The new name.", show_default=False)],
) -> None:
    """Give a run another name.

    \b
    Example:
      mft-tui runs rename 1s09k "qwen 1.5b, case3"
    """
    from mft_tui.cli.store import opened_store

    with opened_store() as store:
        store.rename(store.get_run(run_id).id, name)


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
    from mft_tui.cli.store import opened_store
    from runners.errors import RefusedError
    from runners.lifecycle.liveness import refresh_run
    from runners.lifecycle.status import LIVE

    with opened_store() as store:
        for run_id in run_ids:
            run = refresh_run(store, store.get_run(run_id))
            if restore:
                store.restore(run.id)
                console.print(f"run {run.id} is out of the trash", markup=False)
                continue
            if run.status in LIVE:
                raise RefusedError(
                    f"the run is {run.status}",
                    where=run.id,
                    fix=f"Stop it first: mft-tui stop {run.id}",
                )
            store.trash(run.id)
            console.print(f"run {run.id} is in the trash", markup=False)


COMMANDS: dict[str, Callable[..., None]] = {
    "tag": tag,
    "note": note,
    "rename": rename,
    "rm": remove,
}
