"""Runs that travel: a run folder is complete, so it can be taken in anywhere.

The id is the run's name for life. A folder whose id the store knows is not taken in again; if the
copy here is older (the run went on elsewhere), the newer one's events follow.
"""

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from runners.errors import MissingInputError, UsageError
from runners.lifecycle.folders import RunFolder, StateFolder
from runners.lifecycle.ingest import ingest
from runners.lifecycle.launchfile import Launch, read_launch
from runners.lifecycle.processes import Machine, ProcessId
from runners.lifecycle.status import LIVE, RunStatus, read_status

if TYPE_CHECKING:
    from db import Store

CARD = "card.json"
"""In an archive, what only the store knew of a run: its name, note and tags."""

_PROCESS_FILES = frozenset({"supervisor.lock", "stop.json"})
"""What only means something where the run is supervised."""

_COPIED_ALIVE = "it was copied while it ran"


@dataclass(frozen=True)
class Taken:
    """What became of one run folder."""

    run_id: str
    outcome: Literal[
        "imported", "already here", "brought up to date", "left out: another run has its id"
    ]
    events: int


def import_runs(store: "Store", state: StateFolder, sources: Iterable[Path]) -> list[Taken]:
    """Take in every run in ``sources``: run folders, folders of them, archives, whole stores.

    A run that is here already is not taken in twice. Raises ``MissingInputError`` for a source that
    is not there, ``UsageError`` for one that holds no run.
    """
    taken: list[Taken] = []
    for source in sources:
        if not source.exists():
            raise MissingInputError("there is nothing here", where=str(source))
        if source.is_dir():
            taken += _import_folder(store, state, source)
        elif _is_store(source):
            taken += _merge(store, state, source)
        else:
            with tempfile.TemporaryDirectory() as scratch:
                _unpack(source, Path(scratch))
                found = _some(run_folders(Path(scratch)), source)
                taken += [import_run(store, state, folder) for folder in found]
    return taken


def _import_folder(store: "Store", state: StateFolder, source: Path) -> list[Taken]:
    """A run folder, a folder of them, or a whole state folder with its store."""
    told: list[Taken] = []
    theirs = StateFolder(source).database
    if theirs.is_file() and theirs.resolve() != store.path.resolve():
        # First what was said about the runs; then what their logs have beyond it.
        told = _merge(store, state, theirs)
    found = run_folders(source)
    if not told:
        found = _some(found, source)
    copied = [import_run(store, state, folder) for folder in found]
    merged = {one.run_id: one for one in told}
    return [*told, *(one for one in copied if one.run_id not in merged)]


def _merge(store: "Store", state: StateFolder, theirs: Path) -> list[Taken]:
    done = store.merge(theirs, state.runs)
    for run_id in done.added:
        run = store.get_run(run_id)
        # Its process, if there is one, is another machine's.
        store.transition(
            run_id, "crashed", expected=LIVE, message=_COPIED_ALIVE, ended_at=run.heartbeat_at
        )
    return [
        *(Taken(run_id, "imported", 0) for run_id in done.added),
        *(Taken(run_id, "brought up to date", 0) for run_id in done.updated),
        *(Taken(run_id, "already here", 0) for run_id in done.unchanged),
        *(Taken(run_id, "left out: another run has its id", 0) for run_id in done.conflicts),
    ]


def _is_store(file: Path) -> bool:
    with file.open("rb") as opened:
        return opened.read(16) == b"SQLite format 3\0"


def pack(
    store: "Store", folders: Iterable[RunFolder], archive: Path, *, artifacts: bool = True
) -> Path:
    """Write run folders, each with its card, into a .tar.gz that ``import_runs`` takes.

    It is there whole or not at all.

    Raises ``MissingInputError`` for a folder that is gone.
    """
    temporary = archive.with_name(f".{archive.name}.part")
    try:
        with tarfile.open(temporary, "w:gz", compresslevel=3) as tar:
            for folder in folders:
                if not folder.path.is_dir():
                    raise MissingInputError("the run folder is gone", where=str(folder.path))
                _add_card(tar, store, folder)
                for path in sorted(folder.path.rglob("*")):
                    inside = path.relative_to(folder.path)
                    if path.name in _PROCESS_FILES | {CARD} or (
                        not artifacts and inside.parts[0] == "artifacts"
                    ):
                        continue
                    tar.add(path, Path(folder.run_id) / inside, recursive=False)
        temporary.replace(archive)
    finally:
        temporary.unlink(missing_ok=True)
    return archive


def _add_card(tar: tarfile.TarFile, store: "Store", folder: RunFolder) -> None:
    content = msgspec.json.encode(store.run_card(folder.run_id))
    member = tarfile.TarInfo(f"{folder.run_id}/{CARD}")
    member.size = len(content)
    tar.addfile(member, io.BytesIO(content))


def _unpack(archive: Path, into: Path) -> None:
    try:
        with tarfile.open(archive) as tar:
            # "data" refuses members that would land outside the folder.
            tar.extractall(into, filter="data")
    except tarfile.TarError as error:
        raise UsageError(f"not an archive of runs: {error}", where=str(archive)) from error


def run_folders(source: Path) -> list[RunFolder]:
    """The run folder that ``source`` is, or those in it (or in its ``runs``)."""
    if (source / "launch.json").exists():
        return [RunFolder(source.resolve())]
    inner = source / "runs" if (source / "runs").is_dir() else source
    if not inner.is_dir():
        return []
    return [RunFolder(p.resolve()) for p in sorted(inner.iterdir()) if (p / "launch.json").exists()]


def _some(found: list[RunFolder], source: Path) -> list[RunFolder]:
    if not found:
        raise UsageError(
            "no run folder is in here",
            where=str(source),
            fix="A run folder holds launch.json, config.json and events.jsonl.",
        )
    return found


def import_run(
    store: "Store", state: StateFolder, source: RunFolder, card: Mapping[str, Any] | None = None
) -> Taken:
    """Take in one run folder; ``card`` is what a store said of the run, if it is not in the folder.

    Raises ``MissingInputError`` when the folder is damaged, ``db.StoreError`` when the store does
    not take it.
    """
    from db import RunNotFoundError

    launch = read_launch(source.launch)
    home = state.run(launch.run_id)
    if source.path != home.path.resolve():
        _copy_newer(source, home)
    try:
        known = store.get_run(launch.run_id).id == launch.run_id
    except RunNotFoundError:
        known = False
    if not known:
        store.import_card(_card(launch, home, card), home.path)
    events = ingest(store, home)
    if not known:
        return Taken(launch.run_id, "imported", events)
    if not events:
        return Taken(launch.run_id, "already here", 0)
    status = read_status(home.status)
    if status is not None and status.ended:
        store.update_run(launch.run_id, **_standing(status))
    return Taken(launch.run_id, "brought up to date", events)


def _copy_newer(source: RunFolder, home: RunFolder) -> None:
    """Copy a folder in; over one that is here already only when its log is longer."""
    if home.path.exists():
        if _size(source.events) <= _size(home.events) or _supervised(home):
            return
        shutil.copytree(source.path, home.path, dirs_exist_ok=True, ignore=_ignore)
        return
    home.path.parent.mkdir(parents=True, exist_ok=True)
    part = home.path.with_name(f".{home.run_id}.part")
    shutil.rmtree(part, ignore_errors=True)
    shutil.copytree(source.path, part, ignore=_ignore)
    part.rename(home.path)


def _ignore(_folder: str, names: list[str]) -> set[str]:
    return set(names) & _PROCESS_FILES


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _supervised(folder: RunFolder) -> bool:
    status = read_status(folder.status)
    if status is None or status.ended or status.supervisor_pid is None:
        return False
    here = Machine.here()
    return (status.host, status.boot_id) == (here.host, here.boot_id) and ProcessId(
        status.supervisor_pid, status.supervisor_started or 0.0
    ).alive


def _card(
    launch: Launch, folder: RunFolder, known: Mapping[str, Any] | None = None
) -> dict[str, Any]:
    """What a store said of the run, else what its folder tells."""
    status = read_status(folder.status) or RunStatus(status="crashed")
    standing = _alive(status) if _supervised(folder) else _standing(status)
    try:
        card = known or msgspec.json.decode((folder.path / CARD).read_bytes())
        return {**card, "run": {**card["run"], **standing}}
    except (OSError, msgspec.DecodeError, KeyError, TypeError):
        return {"card": 1, "run": {**_told_by_folder(launch, folder), **standing}, "tags": []}


def _told_by_folder(launch: Launch, folder: RunFolder) -> dict[str, Any]:
    from db import RunRecord

    config = folder.config.read_bytes() if folder.config.exists() else b"{}"
    return asdict(
        RunRecord(
            id=launch.run_id,
            kind=launch.kind,
            name=launch.name,
            created_at=launch.created_at,
            parent_id=launch.parent_id,
            replay_of=launch.replay_of,
            folder=str(folder.path),
            config=msgspec.json.encode(msgspec.json.decode(config)).decode(),
            config_hash=launch.config_hash,
            command=msgspec.json.encode(launch.argv).decode(),
            model_name=launch.model_name,
            data_fingerprint=launch.data_fingerprint,
        )
    )


def _alive(status: RunStatus) -> dict[str, Any]:
    """Of a run that is going here: its store is new, it is not."""
    return {
        name: getattr(status, name)
        for name in (
            *("status", "attempt", "started_at", "ended_at", "exit_code", "message", "host"),
            *("boot_id", "supervisor_pid", "supervisor_started", "job_pid", "job_started"),
        )
    }


def _standing(status: RunStatus) -> dict[str, Any]:
    # A copy of a run that was going has no process behind it here.
    copied_alive = status.status in LIVE
    return {
        "status": "crashed" if copied_alive else status.status,
        "attempt": status.attempt,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
        "exit_code": status.exit_code,
        "message": _COPIED_ALIVE if copied_alive else status.message,
        "host": status.host,
        "supervisor_pid": None,
        "job_pid": None,
    }
