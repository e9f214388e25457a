"""How a command starts a job and follows it; every command that runs something goes through here.

The job does not belong to the command: it has a supervisor of its own. So following can end at any
time, by Ctrl-C, by a closed terminal, by ``--detach``, and the run is none the worse.
"""

import json as jsonlib
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mft_tui.cli.output import console, print_json
from mft_tui.cli.store import opened_store, say_as_it_was
from runners.config import JobConfig
from runners.errors import ExitCode
from runners.lifecycle.folders import RunFolder, StateFolder

if TYPE_CHECKING:
    from db import RunRecord, Store

_ERROR_TAIL_LINES = 15
_SETTLING_SECONDS = 40.0


@dataclass(frozen=True)
class Outcome:
    """How a followed run ended, or that it was left running (``detached``)."""

    run_id: str
    status: str
    exit_code: int
    message: str
    summary: dict[str, Any]
    detached: bool = False

    def to_json(self) -> dict[str, Any]:
        """The job's summary, and the run it came from."""
        return {
            **self.summary,
            "run_id": self.run_id,
            "status": self.status,
            "exit_code": self.exit_code,
            **({"message": self.message} if self.message else {}),
        }


def run_job_command(
    config: JobConfig,
    *,
    name: str | None = None,
    parent: str | None = None,
    detach: bool = False,
    json: bool = False,
    origins: Mapping[str, str] | None = None,
) -> int:
    """Launch ``config`` and follow it to its end; return what the command should exit with.

    ``parent`` is a run id or prefix. With ``json`` the job's summary, with the run's id and status,
    goes to stdout.
    """
    outcome = launch_and_follow(config, name=name, parent=parent, detach=detach, origins=origins)
    if json:
        print_json(outcome.to_json())
    elif detach:
        print(outcome.run_id)
    return outcome.exit_code


def launch_and_follow(
    config: JobConfig,
    *,
    name: str | None = None,
    parent: str | None = None,
    replay_of: str | None = None,
    detach: bool = False,
    origins: Mapping[str, str] | None = None,
    run_id: str | None = None,
) -> Outcome:
    """Launch ``config``, follow it unless ``detach``, and say how it ended.

    ``run_id`` is one from ``db.new_run_id`` whose folder the config already names.
    """
    from runners.lifecycle.launch import launch

    with opened_store() as store:
        parent_id = store.get_run(parent).id if parent else None
        with _hashing() as on_progress:
            run_id = launch(
                config,
                store=store,
                state=StateFolder.default(),
                name=name,
                parent_id=parent_id,
                replay_of=replay_of,
                origins=origins,
                run_id=run_id,
                on_progress=on_progress,
            )
        run = store.get_run(run_id)
        console.print(f"run {run_id} ({run.name}) in {run.folder}", markup=False, soft_wrap=True)
        if detach:
            console.print(f"It goes on by itself. To watch it: mft-tui attach {run_id}")
            return Outcome(run_id, run.status, ExitCode.DONE, "", {}, detached=True)
        return follow_to_end(store, run)


def follow_to_end(
    store: "Store", run: "RunRecord", *, events_from: int = 0, console_from: int | None = None
) -> Outcome:
    """Follow a run that this command started; Ctrl-C stops it, a second one leaves it alone.

    With ``console_from`` the job's console is shown too, from that byte on.
    """
    from mft_tui.cli.following import display_for, follow, termination_as_interrupt
    from runners.lifecycle.stop import request_stop
    from runners.lifecycle.tail import RunTail

    folder = RunFolder(Path(run.folder))
    tail = RunTail(folder, events_from=events_from, console_from=console_from or 0)
    asked = False
    with termination_as_interrupt():
        while True:
            try:
                with display_for(console, run.id, folder) as display:
                    follow(tail, display, show_console=console_from is not None)
                return ended(store, run.id)
            except KeyboardInterrupt:
                if asked:
                    console.print(
                        f"Left alone; it goes on stopping. To see: mft-tui runs show {run.id}"
                    )
                    return Outcome(run.id, "stopping", ExitCode.INTERRUPTED, "", {}, detached=True)
                asked = True
                request_stop(run)
                console.print("Stopping the run (Ctrl-C again to leave without waiting) …")


def ended(store: "Store", run_id: str) -> Outcome:
    """How the run ended, once the database knows; told on stderr too."""
    from db import StoreBusyError, StoreFullError, StoreReadOnlyError
    from runners.lifecycle.status import ENDED, read_status

    try:
        run = _settled(store, run_id)
    except (StoreBusyError, StoreFullError, StoreReadOnlyError) as error:
        say_as_it_was(error)  # the run's own folder knows how it ended
        run = store.get_run(run_id)
    folder = RunFolder(Path(run.folder))
    known = read_status(folder.status)
    status, message, code = run.status, run.message, run.exit_code
    if status not in ENDED and known is not None:
        status, message, code = known.status, known.message, known.exit_code
    outcome = Outcome(
        run_id, status, exit_code_of(status, code), message, jsonlib.loads(run.summary or "{}")
    )
    _tell(outcome, run, folder)
    return outcome


def _settled(store: "Store", run_id: str) -> "RunRecord":
    """The run once the database says that it has ended, or has had time enough to."""
    from runners.lifecycle.liveness import refresh_run
    from runners.lifecycle.status import ENDED

    deadline = time.monotonic() + _SETTLING_SECONDS
    run = refresh_run(store, store.get_run(run_id))
    while run.status not in ENDED and time.monotonic() < deadline:
        time.sleep(0.05)
        run = refresh_run(store, store.get_run(run_id))
    return run


def exit_code_of(status: str, code: int | None) -> int:
    """What a command exits with for a run that ended so."""
    if status == "finished":
        return ExitCode.DONE
    if status == "stopped":
        return ExitCode.INTERRUPTED
    if status == "failed" and code in set(ExitCode) - {ExitCode.DONE}:
        return int(code)
    return ExitCode.FAILED


def _tell(outcome: Outcome, run: "RunRecord", folder: RunFolder) -> None:
    took = ""
    if run.started_at and run.ended_at:
        from mft_tui.cli.following import shown_seconds

        took = f" after {shown_seconds(run.ended_at - run.started_at)}"
    console.print(f"run {outcome.run_id} {outcome.status}{took}", markup=False)
    if outcome.status in {"stopped", "crashed", "failed"}:
        if outcome.message:
            console.print(f"  {outcome.message}", markup=False, soft_wrap=True)
        if outcome.status != "stopped" and not outcome.message.strip():
            _show_tail(folder)
        console.print(
            f"  To see its console: mft-tui logs {outcome.run_id}"
            f"\n  To go on with it: mft-tui resume {outcome.run_id}",
            markup=False,
        )


def _show_tail(folder: RunFolder) -> None:
    from runners.lifecycle.tail import recent

    with folder.console.open("rb") as file:
        file.seek(recent(folder.console, 1 << 14))
        lines = file.read().decode(errors="replace").splitlines()
    for line in lines[-_ERROR_TAIL_LINES:]:
        console.print(f"  | {line}", markup=False, soft_wrap=True)


@contextmanager
def _hashing() -> Iterator[Any]:
    """A line about hashing, but only where there is so much that a person would wonder."""
    shown_at = 0.0

    def on_progress(done: int, total: int) -> None:
        nonlocal shown_at
        now = time.monotonic()
        if total > 1 << 30 and (now - shown_at > 1.0 or done == total):
            shown_at = now
            end = "\n" if done == total else "\r"
            if console.is_terminal or done == total:
                console.print(f"hashing inputs: {done / 1e9:.1f} of {total / 1e9:.1f} GB", end=end)

    yield on_progress
