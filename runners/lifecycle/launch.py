"""Launching a run: check, hash, record, and start a supervisor that owes the terminal nothing.

Everything that can go wrong for a reason the person can mend goes wrong here, before anything has
been recorded: a missing input, a config that makes no sense, a state folder that cannot be written.
"""

import os
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runners.config import JobConfig
from runners.errors import JobFailedError, MissingInputError, UsageError
from runners.lifecycle.command import CommandOf, JobCommand, job_command
from runners.lifecycle.folders import RunFolder, StateFolder
from runners.lifecycle.hashing import HashCache, Progress
from runners.lifecycle.launchfile import Launch, read_launch, write_launch
from runners.lifecycle.liveness import refresh_run
from runners.lifecycle.processes import Machine, ProcessId
from runners.lifecycle.provenance import Provenance, gather
from runners.lifecycle.status import LIVE, RunStatus, write_status, write_whole

if TYPE_CHECKING:
    from db import RunRecord, Store

JOB_ENVIRONMENT = {
    # The console is a file, and a line must be in it when it was printed.
    "PYTHONUNBUFFERED": "1",
    # `python -m` puts the working folder on the path, where a person's tokenize.py would be found.
    "PYTHONSAFEPATH": "1",
    # OpenMP threads that wait spin by default; with more runnable threads than cores, each barrier
    # then costs a time slice, and a training step takes twenty times as long.
    "OMP_WAIT_POLICY": "PASSIVE",
}

RESUMABLE = frozenset({"stopped", "failed", "crashed"})


def launch(
    config: JobConfig,
    *,
    store: "Store",
    state: StateFolder,
    name: str | None = None,
    parent_id: str | None = None,
    replay_of: str | None = None,
    origins: Mapping[str, str] | None = None,
    job_command: CommandOf = job_command,
    cwd: Path | None = None,
    grace: float | None = None,
    run_id: str | None = None,
    on_progress: Progress | None = None,
) -> str:
    """Start a run of ``config`` and return its id; the run lives on without the caller.

    ``parent_id`` is found from the inputs when left out: a run continues the one whose results it
    reads. ``run_id`` is one from ``db.new_run_id`` whose folder the config already names.
    ``on_progress`` is told of hashing, in bytes. ``job_command`` gives the program to run.
    Raises ``MissingInputError`` or ``UsageError`` before anything is recorded.
    """
    from db import RunRecord, new_run_id

    cwd = cwd or Path.cwd()
    run_id = run_id or new_run_id()
    folder = state.run(run_id)
    command = job_command(config, folder.path)
    _make_folder(state.root)
    provenance = gather(
        config,
        command.argv,
        cache=HashCache(state.hashes),
        cwd=cwd,
        environ={**os.environ, **command.env},
        hardware=_hardware(),
        on_progress=on_progress,
    )
    record = RunRecord(
        id=run_id,
        kind=config.kind,
        name=name or default_name(config),
        created_at=time.time(),
        parent_id=parent_id or find_parent(provenance, state, store),
        replay_of=replay_of,
        host=Machine.here().host,
        boot_id=Machine.here().boot_id,
        folder=str(folder.path),
        config=config.model_dump_json(),
        config_hash=provenance.config_hash,
        command=msgspec.json.encode(command.argv).decode(),
        model_name=model_name(config),
        data_fingerprint=provenance.data_fingerprint,
    )
    store.insert_run(record)
    try:
        _fill_folder(folder, config, provenance, record, command, store.path, origins, grace)
    except OSError as error:
        told = f"the run folder cannot be written ({error.strerror})"
        store.transition(run_id, "failed", expected=LIVE, message=told, ended_at=time.time())
        raise UsageError(
            told, where=str(folder.path), fix="Free some space, or set MFT_HOME to another folder."
        ) from error
    start_supervisor(folder, store)
    return run_id


def resume(
    run_id: str,
    *,
    store: "Store",
    state: StateFolder,
    grace: float | None = None,
) -> str:
    """Start the next attempt of a run that was stopped, failed or crashed; return its whole id.

    The same folder, command and working folder; the job goes on where it was. Raises
    ``UsageError`` when the run is still going, or has finished.
    """
    run = refresh_run(store, store.get_run(run_id))
    folder = RunFolder(Path(run.folder))
    launch_file = read_launch(folder.launch)
    if grace is not None:
        write_launch(folder.launch, msgspec.structs.replace(launch_file, grace=grace))
    attempt = run.attempt + 1
    here = Machine.here()
    won = store.transition(
        run.id,
        "queued",
        expected=RESUMABLE,
        attempt=attempt,
        ended_at=None,
        exit_code=None,
        message="",
        host=here.host,
        boot_id=here.boot_id,
        supervisor_pid=None,
        supervisor_started=None,
        job_pid=None,
        job_started=None,
        heartbeat_at=time.time(),
    )
    if not won:
        raise _not_resumable(store.get_run(run.id))
    folder.stop_request.unlink(missing_ok=True)
    write_status(
        folder.status,
        RunStatus(status="queued", attempt=attempt, host=here.host, boot_id=here.boot_id),
    )
    start_supervisor(folder, store)
    return run.id


def _not_resumable(run: "RunRecord") -> UsageError:
    if run.status == "finished":
        return UsageError(
            "the run has finished: there is nothing to resume",
            where=run.id,
            fix=f"To run it again: mft-tui --replay {run.id}",
        )
    return UsageError(
        f"the run is {run.status} already",
        where=run.id,
        fix=f"To watch it: mft-tui attach {run.id}",
    )


def start_supervisor(folder: RunFolder, store: "Store") -> ProcessId:
    """Start guard and supervisor for the run, detached from everything here; return the latter.

    Raises ``JobFailedError`` when not even that works; the run is recorded as failed then.
    """
    argv = [sys.executable, "-P", "-m", "runners.lifecycle.supervise", str(folder.path)]
    try:
        started = subprocess.run(
            argv,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            start_new_session=True,
            timeout=60,
            check=False,
        )
        supervisor = ProcessId.of(int(started.stdout)) if started.stdout.strip() else None
        trouble = started.stderr.decode(errors="replace").strip()
    except (OSError, subprocess.TimeoutExpired) as error:
        supervisor, trouble = None, str(error)
    if supervisor is None:
        told = f"the supervisor did not start: {trouble or 'it ended at once'}"
        store.transition(
            folder.run_id, "failed", expected={"queued"}, message=told, ended_at=time.time()
        )
        raise JobFailedError(told, where=str(folder.supervisor_log))
    # The supervisor says so itself as well; this is for whoever looks before it does.
    store.transition(
        folder.run_id,
        "queued",
        expected={"queued"},
        supervisor_pid=supervisor.pid,
        supervisor_started=supervisor.started,
    )
    return supervisor


def default_name(config: JobConfig) -> str:
    """A name for a run that was given none: its job and its model."""
    return " ".join(part for part in (config.kind, model_name(config)) if part)


def model_name(config: JobConfig) -> str:
    """The model a config is about, as a person would call it; "" when it names none."""
    if name := getattr(config, "model_name", None):
        return str(name)
    if generations := getattr(config, "generations", None):
        return Path(generations).name.removeprefix("generations_")
    if (output := getattr(config, "output_dir", None)) and config.kind in {"merge", "convert"}:
        return Path(output).name
    for key in ("pretrained_model_path", "model", "adapter"):
        if value := getattr(config, key, None):
            return Path(value).name
    return ""


def find_parent(provenance: Provenance, state: StateFolder, store: "Store") -> str | None:
    """The run that made one of the inputs, models and generations before data."""
    order = ("adapter", "generations", "model", "checkpoint", "completions", "dataset")
    for role in order:
        for record in provenance.inputs:
            if record.role == role and record.path:
                path = Path(record.path)
                if owner := _owner(path, state) or store.maker_of(path):
                    return owner
    return None


def _owner(path: Path, state: StateFolder) -> str | None:
    """The run whose folder it lies in."""
    runs = state.runs.resolve()
    resolved = path.resolve()
    return resolved.relative_to(runs).parts[0] if resolved.is_relative_to(runs) else None


def _make_folder(path: Path) -> None:
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MissingInputError(
            f"the state folder cannot be made ({error.strerror})",
            where=str(path),
            fix="Set MFT_HOME to a folder that you may write.",
        ) from error


def _fill_folder(
    folder: RunFolder,
    config: JobConfig,
    provenance: Provenance,
    record: "RunRecord",
    command: JobCommand,
    database: Path,
    origins: Mapping[str, str] | None,
    grace: float | None,
) -> None:
    folder.path.mkdir(parents=True)
    write_whole(folder.config, config.model_dump_json(indent=2).encode() + b"\n")
    write_whole(folder.provenance, msgspec.json.format(msgspec.json.encode(provenance)) + b"\n")
    launch_file = Launch(
        run_id=record.id,
        kind=record.kind,
        name=record.name,
        argv=command.argv,
        env={**JOB_ENVIRONMENT, **command.env},
        cwd=provenance.cwd,
        created_at=record.created_at,
        database=str(database),
        parent_id=record.parent_id,
        replay_of=record.replay_of,
        model_name=record.model_name,
        data_fingerprint=record.data_fingerprint,
        config_hash=record.config_hash,
        origins=dict(origins or {}),
    )
    if grace is not None:
        launch_file = msgspec.structs.replace(launch_file, grace=grace)
    write_launch(folder.launch, launch_file)
    write_status(
        folder.status, RunStatus(status="queued", host=record.host, boot_id=record.boot_id)
    )
    folder.console.touch()


def _hardware() -> dict[str, object]:
    from runners.hardware.probe import detect

    return detect().to_json()
