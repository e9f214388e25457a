"""How a run stands, on disk: ``status.json`` in the run folder.

The database is where people look, but it may be locked, full or gone while a job runs, and a run
folder may be carried to another machine. So the supervisor writes each change here first; whoever
finds the two apart brings the database up to this file.
"""

import errno
import os
from pathlib import Path

import msgspec

ENDED = frozenset({"finished", "failed", "stopped", "crashed"})
LIVE = frozenset({"queued", "running", "stopping"})

_RESERVED = 4095
"""Bytes the file is padded to, so that a later, longer status fits into its space."""


class RunStatus(msgspec.Struct, frozen=True, kw_only=True):
    """What the supervisor knows of its run. Times are Unix seconds."""

    status: str
    attempt: int = 1
    started_at: float | None = None
    ended_at: float | None = None
    exit_code: int | None = None
    message: str = ""
    host: str = ""
    boot_id: str = ""
    supervisor_pid: int | None = None
    supervisor_started: float | None = None
    job_pid: int | None = None
    job_started: float | None = None
    changed_inputs: list[str] = []
    """Inputs whose content after the run is not what it was before."""
    inputs_verified: bool | None = None
    """True when every input was the same after the run; None when that was not looked at."""

    @property
    def ended(self) -> bool:
        """True when nothing more will happen in this attempt."""
        return self.status in ENDED


def read_status(path: Path) -> RunStatus | None:
    """The status on disk; None when there is none or it cannot be read as one."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=RunStatus)
    except (OSError, msgspec.DecodeError):
        return None


def write_status(path: Path, status: RunStatus) -> None:
    """Replace the file in one step, so that a reader sees the old or the new one whole.

    On a full disk the old file's own space is written over: that a run failed because the disk was
    full must be told on that very disk. Raises ``OSError``.
    """
    content = msgspec.json.format(msgspec.json.encode(status), indent=2).ljust(_RESERVED) + b"\n"
    try:
        write_whole(path, content)
    except OSError as error:
        if error.errno not in {errno.ENOSPC, errno.EDQUOT} or not path.exists():
            raise
        with path.open("r+b") as file:
            file.write(content)
            file.truncate()


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that it is there whole or not at all. Raises ``OSError``."""
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with temporary.open("wb") as file:
            file.write(content)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)
