"""Runs that travel: a run folder is complete, so it can be taken in anywhere.

The id is the run's name for life. A folder whose id the store knows is not taken in again; if the
copy here is older (the run went on elsewhere), the newer one's events follow.
"""

import io
import shutil
import tarfile
import tempfile
from collections.abc import Iterable
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


@dataclass(frozen=True)
class Taken:
    """What became of one run folder."""

    run_id: str
    outcome: Literal["imported", "already here", "brought up to date"]
    events: int


def import_runs(store: "Store", state: StateFolder, sources: Iterable[Path]) -> list[Taken]:
    """Take in every run folder in ``sources``: run folders, folders of them, or archives.

    A run that is here already is not taken in twice. Raises ``MissingInputError`` for a source that
    is not there, ``UsageError`` for one that holds no run.
    """
    taken = []
    for source in sources:
        if not source.exists():
            raise MissingInputError("there is nothing here", where=str(source))
        if source.is_dir():
            taken += [_import(store, state, folder) for folder in _run_folders(source)]
        else:
            with tempfile.TemporaryDirectory() as scratch:
                _unpack(source, Path(scratch))
                taken += [_import(store, state, f) for f in _run_folders(Path(scratch))]
    return taken


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


def _run_folders(source: Path) -> list[RunFolder]:
    if (source / "launch.json").exists():
        return [RunFolder(source.resolve())]
    inner = source / "runs" if (source / "runs").is_dir() else source
    found = [
        RunFolder(p.resolve()) for p in sorted(inner.iterdir()) if (p / "launch.json").exists()
    ]
    if not found:
        raise UsageError(
            "no run folder is in here",
            where=str(source),
            fix="A run folder holds launch.json, config.json and events.jsonl.",
        )
    return found


def _import(store: "Store", state: StateFolder, source: RunFolder) -> Taken:
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
        store.import_card(_card(launch, home), home.path)
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


def _card(launch: Launch, folder: RunFolder) -> dict[str, Any]:
    """What the store of another machine said of the run, else what its folder tells."""
    standing = _standing(read_status(folder.status) or RunStatus(status="crashed"))
    try:
        card: dict[str, Any] = msgspec.json.decode((folder.path / CARD).read_bytes())
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


def _standing(status: RunStatus) -> dict[str, Any]:
    # A copy of a run that was going has no process behind it here.
    copied_alive = status.status in LIVE
    return {
        "status": "crashed" if copied_alive else status.status,
        "attempt": status.attempt,
        "started_at": status.started_at,
        "ended_at": status.ended_at,
        "exit_code": status.exit_code,
        "message": "it was copied while it ran" if copied_alive else status.message,
        "host": status.host,
        "supervisor_pid": None,
        "job_pid": None,
    }
