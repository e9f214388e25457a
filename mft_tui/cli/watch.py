"""``attach``, ``stop``, ``resume``, ``logs``: what one does with a run that is, or was, going."""

import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from mft_tui.cli.output import console, print_json
from runners.errors import ExitCode

if TYPE_CHECKING:
    from db import RunRecord, Store

_RECENT_BYTES = 1 << 16


def complete_run_id(incomplete: str) -> list[tuple[str, str]]:
    """Run ids for shell completion, newest first, with what they are."""
    from db import RunQuery, StoreError, open_store
    from runners.lifecycle.folders import StateFolder

    try:
        with open_store(StateFolder.default().database, read_only=True) as store:
            rows = store.list_runs(RunQuery(limit=100)).rows
    except StoreError:  # a shell's completion has no place for an error
        return []
    return [
        (row.run.id, f"{row.run.name} ({row.run.status})")
        for row in rows
        if row.run.id.startswith(incomplete)
    ]


RunId = Annotated[
    str,
    typer.Argument(
        metavar="RUN_ID",
        help="The run's id, or the beginning of it.",
        autocompletion=complete_run_id,
        show_default=False,
    ),
]


def attach(
    run_id: RunId,
    json: Annotated[bool, typer.Option("--json", help="The summary as JSON on stdout.")] = False,
) -> None:
    """Follow a run, its console and its progress, until it ends.

    Ctrl-C ends the watching, not the run. The exit status is the run's.

    \b
    Example:
      mft-tui attach 1s09k
    """
    from mft_tui.cli.following import display_for, follow
    from mft_tui.cli.launching import ended
    from mft_tui.cli.store import seen, store_to_read
    from runners.lifecycle.folders import RunFolder
    from runners.lifecycle.tail import RunTail, recent

    with store_to_read() as store:
        run = seen(store, run_id)
        folder = RunFolder(Path(run.folder))
        tail = RunTail(
            folder,
            events_from=recent(folder.events, _RECENT_BYTES),
            console_from=recent(folder.console, _RECENT_BYTES),
        )
        try:
            with display_for(console, run.id, folder) as display:
                follow(tail, display, show_console=True)
        except KeyboardInterrupt:
            console.print(f"No longer watching; the run goes on. To stop it: mft-tui stop {run.id}")
            raise typer.Exit(ExitCode.DONE) from None
        outcome = ended(store, run.id)
    if json:
        print_json(outcome.to_json())
    raise typer.Exit(outcome.exit_code)


def stop(
    run_id: RunId,
    grace: Annotated[
        float | None, typer.Option(help="Seconds before the job is killed.", min=0)
    ] = None,
    now: Annotated[bool, typer.Option("--now", help="Kill it at once; same as --grace 0.")] = False,
    wait: Annotated[bool, typer.Option(help="Wait until it has stopped.")] = True,
    json: Annotated[bool, typer.Option("--json", help="Report as JSON on stdout.")] = False,
) -> None:
    """Stop a run: its job finishes the step it is at, keeps what it has, and ends.

    \b
    Examples:
      mft-tui stop 1s09k
      mft-tui stop 1s09k --now
    """
    from mft_tui.cli.store import seen, store_to_read
    from runners.lifecycle.status import LIVE
    from runners.lifecycle.stop import request_stop

    # The run is asked through its folder, so that it stops whatever is wrong with the store.
    with store_to_read() as store:
        run = seen(store, run_id)
        request_stop(run, grace=0.0 if now else grace)
        console.print(f"asked run {run.id} to stop")
        if wait:
            run = _waited_for(store, run)
        if run.status not in LIVE:
            console.print(f"run {run.id} {run.status}")
    if json:
        print_json({"id": run.id, "status": run.status, "exit_code": run.exit_code})


def _waited_for(store: "Store", run: "RunRecord") -> "RunRecord":
    """The run once it has ended, whether or not the store has heard of it."""
    from db import StoreBusyError, StoreFullError, StoreReadOnlyError
    from mft_tui.cli.store import say_as_it_was
    from runners.lifecycle.folders import RunFolder
    from runners.lifecycle.liveness import refresh_run
    from runners.lifecycle.status import LIVE, read_status

    try:
        while run.status in LIVE:
            time.sleep(0.1)
            run = refresh_run(store, store.get_run(run.id))
            known = read_status(RunFolder(Path(run.folder)).status)
            if known is not None and known.ended and run.status in LIVE and _silent(known.ended_at):
                break  # the store will hear of it later
    except (StoreBusyError, StoreFullError, StoreReadOnlyError) as error:
        say_as_it_was(error)
    return run


def _silent(ended_at: float | None) -> bool:
    return ended_at is not None and time.time() - ended_at > 5.0


def resume(
    run_id: RunId,
    detach: Annotated[bool, typer.Option("--detach", help="Start it and come back.")] = False,
    json: Annotated[bool, typer.Option("--json", help="The summary as JSON on stdout.")] = False,
) -> None:
    """Go on with a run that was stopped, failed or crashed, where it was.

    \b
    Example:
      mft-tui resume 1s09k
    """
    from mft_tui.cli.launching import follow_to_end
    from mft_tui.cli.store import opened_store
    from runners.lifecycle.folders import RunFolder, StateFolder
    from runners.lifecycle.launch import resume as resume_run

    with opened_store() as store:
        run = store.get_run(run_id)
        events = RunFolder(Path(run.folder)).events
        before = events.stat().st_size if events.exists() else 0
        resume_run(run.id, store=store, state=StateFolder.default())
        run = store.get_run(run.id)
        console.print(f"run {run.id} goes on: attempt {run.attempt}")
        if detach:
            if json:
                print_json({"run_id": run.id, "status": run.status, "attempt": run.attempt})
            else:
                print(run.id)
            return
        outcome = follow_to_end(store, run, events_from=before)
    if json:
        print_json(outcome.to_json())
    raise typer.Exit(outcome.exit_code)


def logs(
    run_id: RunId,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Go on printing until the run ends.")
    ] = False,
    lines: Annotated[
        int | None, typer.Option("--lines", "-n", help="Only the last N lines.", min=0)
    ] = None,
) -> None:
    """Print what a run's job wrote to its console.

    \b
    Examples:
      mft-tui logs 1s09k -n 50
      mft-tui logs 1s09k --follow
    """
    from mft_tui.cli.store import store_to_read
    from runners.errors import MissingInputError
    from runners.lifecycle.folders import RunFolder
    from runners.lifecycle.processes import Machine
    from runners.lifecycle.status import read_status
    from runners.lifecycle.tail import supervised

    with store_to_read() as store:
        run = store.get_run(run_id)
    folder = RunFolder(Path(run.folder))
    if not folder.console.exists():
        raise MissingInputError("the run has no console log", where=str(folder.console))
    here = Machine.here()

    def going() -> bool:
        status = read_status(folder.status)
        return follow and not (status is not None and status.ended) and supervised(status, here)

    try:
        _copy(folder.console, lines, going)
    except KeyboardInterrupt:
        raise typer.Exit(ExitCode.INTERRUPTED) from None


def _copy(path: Path, lines: int | None, going: Callable[[], bool]) -> None:
    """Write the file to stdout as it is, byte for byte, and what is added while ``going``."""
    with path.open("rb") as file:
        if lines is not None:
            file.seek(_start_of_last(path, lines))
        while True:
            more = going()  # asked first, so that the last words of a run are copied
            while chunk := file.read(1 << 16):
                sys.stdout.buffer.write(chunk)
            sys.stdout.buffer.flush()
            if not more:
                return
            time.sleep(0.2)


def _start_of_last(path: Path, lines: int) -> int:
    """The byte where the last ``lines`` lines begin, reading backwards."""
    with path.open("rb") as file:
        position = end = file.seek(0, 2)
        wanted, tail = lines, b""
        while position > 0:
            step = min(1 << 16, position)
            position -= step
            file.seek(position)
            tail = file.read(step) + tail
            body = tail.removesuffix(b"\n")
            if body.count(b"\n") >= wanted:
                break
        if wanted == 0:
            return end
        kept = tail.removesuffix(b"\n").split(b"\n")[-wanted:]
        return end - len(b"\n".join(kept)) - (1 if tail.endswith(b"\n") else 0)
