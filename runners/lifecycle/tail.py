"""Following a run from its files: new events, new console bytes, and whether it is over.

From the files and not from the database, so that following works while the database is busy or
full, and shows a line when it was written. Nothing here can touch the run.
"""

from dataclasses import dataclass
from pathlib import Path

from runners.lifecycle.events import AnyEvent, read_events
from runners.lifecycle.folders import RunFolder
from runners.lifecycle.processes import Machine, ProcessId
from runners.lifecycle.status import RunStatus, read_status

_CHUNK = 1 << 20


@dataclass(frozen=True)
class News:
    """What came since the last look. ``console`` is at most a mebibyte; more comes next time."""

    events: tuple[AnyEvent, ...]
    console: bytes
    status: RunStatus | None

    @property
    def empty(self) -> bool:
        """True when nothing was written."""
        return not self.events and not self.console


class RunTail:
    """Reads a run folder's event log and console from given places on."""

    def __init__(self, folder: RunFolder, *, events_from: int = 0, console_from: int = 0) -> None:
        self._folder = folder
        self._events_at = events_from
        self._console_at = console_from

    def look(self) -> News:
        """What is new. The status is read first, so that an ended run's last words are in it."""
        status = read_status(self._folder.status)
        events = []
        if self._folder.events.exists():
            for event, offset in read_events(self._folder.events, self._events_at):
                events.append(event)
                self._events_at = offset
        return News(tuple(events), self._console(), status)

    def _console(self) -> bytes:
        try:
            with self._folder.console.open("rb") as file:
                file.seek(self._console_at)
                content = file.read(_CHUNK)
        except OSError:
            return b""
        self._console_at += len(content)
        return content


def supervised(status: RunStatus | None, machine: Machine) -> bool:
    """False when the run's supervisor was on this machine and is gone."""
    if status is None or status.ended or status.supervisor_pid is None:
        return True
    if (status.host, status.boot_id) != (machine.host, machine.boot_id):
        return True
    return ProcessId(status.supervisor_pid, status.supervisor_started or 0.0).alive


def recent(path: Path, size: int) -> int:
    """The byte at which the last whole lines of at most ``size`` bytes begin; 0 when all fit."""
    try:
        with path.open("rb") as file:
            end = file.seek(0, 2)
            start = max(0, end - size)
            if start == 0:
                return 0
            file.seek(start)
            return start + len(file.readline())
    except OSError:
        return 0
