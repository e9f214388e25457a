"""Is a run still alive? Asked by whoever looks at runs, because the dead do not report.

On the same machine the supervisor's process answers, at once: it is there or the run has crashed.
About another machine only the heartbeat tells, and silence is shown as ``stale``, which is no
status: the run may be well and its network not.
"""

import contextlib
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from runners.lifecycle.folders import RunFolder
from runners.lifecycle.ingest import ingest
from runners.lifecycle.locking import exclusive
from runners.lifecycle.processes import Machine, ProcessId, descendants, end_all, marked
from runners.lifecycle.status import LIVE, RunStatus, read_status, write_status

if TYPE_CHECKING:
    from db import RunRecord, Store

STALE_SECONDS = 60.0
"""Silence after which a run on another machine is shown as stale."""

START_SECONDS = 60.0
"""What a launcher gets to start a supervisor for the run it has recorded."""

DYING_SECONDS = 2.0
"""How long a dead supervisor's lock is waited for: its last thread, or its guard, may have it."""


def refresh(
    store: "Store",
    *,
    machine: Machine | None = None,
    clock: Callable[[], float] = time.time,
) -> list[str]:
    """Bring every run that counts as live up to the truth; return the ids of those found dead.

    What a dead run left is ended (processes) and taken in (events). A store that was opened for
    reading only stays as it is. Raises ``db.StoreError``.
    """
    from db import RunQuery

    found: list[str] = []
    if store.read_only:
        return found
    for status in sorted(LIVE):
        for row in store.list_runs(
            RunQuery(filter=f"status:{status}", limit=1000, trash="include")
        ).rows:
            after = refresh_run(store, row.run, machine=machine, clock=clock)
            if after.status not in LIVE:
                found.append(after.id)
    return found


def refresh_run(
    store: "Store",
    run: "RunRecord",
    *,
    machine: Machine | None = None,
    clock: Callable[[], float] = time.time,
) -> "RunRecord":
    """The run as it truly stands now; a run that is dead is settled first, where the store can be
    written."""
    here = machine or Machine.here()
    if store.read_only or not is_dead(run, here, clock()):
        return run
    settle(store, run.id, RunFolder(Path(run.folder)), here, clock)
    return store.get_run(run.id)


def shown_status(run: "RunRecord", machine: Machine, now: float) -> str:
    """The run's status, or ``stale`` when its machine is another one that has been silent."""
    if run.status not in LIVE or _here(run, machine):
        return run.status
    last = run.heartbeat_at or run.started_at or run.created_at
    return "stale" if now - last > STALE_SECONDS else run.status


def is_dead(run: "RunRecord", machine: Machine, now: float) -> bool:
    """True when the run counts as live and certainly is not."""
    if run.status not in LIVE or run.host != machine.host:
        return False
    theirs = Machine(run.host, run.boot_id)
    if machine.same_boot_elsewhere(theirs):
        return False
    if run.boot_id != machine.boot_id:
        return True  # this machine has been started anew since
    if run.supervisor_pid is None or run.supervisor_started is None:
        return now - (run.heartbeat_at or run.created_at) > START_SECONDS
    return not ProcessId(run.supervisor_pid, run.supervisor_started).alive


def _here(run: "RunRecord", machine: Machine) -> bool:
    theirs = Machine(run.host, run.boot_id)
    return run.host == machine.host and not machine.same_boot_elsewhere(theirs)


def settle(
    store: "Store",
    run_id: str,
    folder: RunFolder,
    machine: Machine,
    clock: Callable[[], float] = time.time,
) -> bool:
    """Put a dead run in order: end its processes, take in its events, write how it ended.

    Does nothing, and returns False, while somebody supervises it: it may have been resumed a moment
    ago, and then its processes are not ours to end.
    """
    if not folder.path.is_dir():
        return store.transition(
            run_id,
            "crashed",
            expected=LIVE,
            ended_at=clock(),
            message=f"its folder is gone: {folder.path}",
        )
    deadline = time.monotonic() + DYING_SECONDS

    def dying() -> bool:
        return time.monotonic() < deadline and is_dead(store.get_run(run_id), machine, clock())

    with exclusive(folder.lock, dying) as alone:
        run = store.get_run(run_id)
        if not alone or not is_dead(run, machine, clock()):
            return False
        end_processes(run)
        ingest(store, folder)
        ending = _how_it_ended(folder, run, clock())
        store.transition(
            run_id,
            ending.status,
            expected=LIVE,
            ended_at=ending.ended_at,
            exit_code=ending.exit_code,
            started_at=ending.started_at or run.started_at,
            **({"message": ending.message} if ending.message else {}),
        )
        # The folder should tell the same story, but a disk that is full must not hide it.
        with contextlib.suppress(OSError):
            write_status(folder.status, ending)
    return True


def end_processes(run: "RunRecord") -> None:
    """Kill whatever a dead run left running on this machine."""
    job = None
    if run.job_pid is not None and run.job_started is not None:
        job = ProcessId(run.job_pid, run.job_started)

    def remaining() -> set[ProcessId]:
        family = marked(run.id)
        if job is not None and job.alive:
            family |= {job} | descendants(job.pid)
        return family

    end_all(remaining)


def _how_it_ended(folder: RunFolder, run: "RunRecord", now: float) -> RunStatus:
    """What the supervisor managed to write, else that it died."""
    import msgspec

    known = read_status(folder.status)
    if known is not None and known.ended and known.attempt == run.attempt:
        return known
    last_write = folder.events.stat().st_mtime if folder.events.exists() else now
    base = known or RunStatus(status="crashed", attempt=run.attempt)
    if _job_finished(folder, run):
        return msgspec.structs.replace(
            base, status="finished", ended_at=last_write, exit_code=0, message=""
        )
    return msgspec.structs.replace(
        base,
        status="crashed",
        attempt=run.attempt,
        ended_at=max(last_write, run.started_at or run.created_at),
        exit_code=None,
        message="its supervisor died (killed, or the machine went down)",
    )


def _job_finished(folder: RunFolder, run: "RunRecord") -> bool:
    """True when the job of this attempt had said it was done before its supervisor died."""
    return judge_last_attempt(folder, run.attempt) == "finished"


def judge_last_attempt(folder: RunFolder, attempt: int) -> str:
    """``finished`` when the log's last attempt is ``attempt`` and ended well, else ``crashed``."""
    from runners.lifecycle.events import Finished, Started, read_events

    seen, finished = 0, False
    if folder.events.exists():
        for event, _ in read_events(folder.events):
            if isinstance(event, Started):
                seen, finished = event.attempt, False
            elif isinstance(event, Finished):
                finished = True
    return "finished" if finished and seen == attempt else "crashed"


def bury(folder: RunFolder) -> None:
    """What the guard does when its supervisor died: end the job's processes, then settle the run.

    The processes first, and whatever the database says: they are descendants of the caller.
    """
    from db import open_store
    from runners.lifecycle.launchfile import read_launch

    run_id = folder.run_id
    end_all(lambda: descendants(os.getpid()) | marked(run_id))
    launch = read_launch(folder.launch)
    with open_store(Path(launch.database)) as store:
        settle(store, run_id, folder, Machine.here())
