"""What every job program does around its real work.

``python -m runners.<job> RUN_FOLDER`` reads ``config.json`` there, appends to ``events.jsonl``,
and leaves with the exit code that its end deserves. SIGTERM and SIGINT ask for a clean stop: the
work looks at ``Job.stopping`` between units and returns; what it wrote so far stays.
"""

import contextlib
import errno
import hashlib
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import Generic, TypeVar

from pydantic import BaseModel

from runners.errors import ExitCode, MftError, UsageError
from runners.lifecycle.events import EventWriter, Started, read_events
from runners.lifecycle.folders import RunFolder

ConfigT = TypeVar("ConfigT", bound=BaseModel)

_DISK_FULL = {
    errno.ENOSPC: "the disk is full\n  Free some space and resume the run.",
    errno.EDQUOT: "the disk quota is used up\n  Free some space and resume the run.",
    errno.EFBIG: "a file grew past the allowed size\n  Raise the limit (ulimit -f) and resume.",
}


@dataclass
class Job(Generic[ConfigT]):
    """A job at work: what it was asked, where it writes, whether it should stop.

    ``attempt`` is 1 at first and grows by one each time the run is resumed.
    """

    folder: RunFolder
    config: ConfigT
    events: EventWriter
    attempt: int
    _stop: threading.Event = field(default_factory=threading.Event)

    @property
    def stopping(self) -> bool:
        """True once somebody asked the job to stop."""
        return self._stop.is_set()

    def request_stop(self) -> None:
        """Ask the job to stop at the next unit of work."""
        self._stop.set()

    def output_folder(self, asked: Path | None) -> Path:
        """The folder for results: the one asked for, else the run's ``artifacts``; created.

        Raises ``UsageError`` when it cannot be written.
        """
        folder = asked if asked is not None else self.folder.artifacts
        try:
            folder.mkdir(parents=True, exist_ok=True)
            probe = folder / f".write-probe-{os.getpid()}"
            probe.touch()
            probe.unlink()
        except OSError as error:
            raise UsageError(
                f"cannot write to the output folder ({error.strerror})",
                where=str(folder),
                fix="Choose another folder with --output, or make this one writable.",
            ) from error
        return folder

    def record_artifact(self, kind: str, path: Path) -> None:
        """Record a file or folder as an artifact of this run, with its SHA-256 and size."""
        digest, size = digest_path(path)
        shown = path.absolute()
        if shown.is_relative_to(self.folder.path):
            shown = shown.relative_to(self.folder.path)
        self.events.artifact(kind, shown, digest, size)


def digest_path(path: Path) -> tuple[str, int]:
    """SHA-256 and size in bytes of a file, or of a folder's files by relative name and content."""
    if path.is_file():
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest(), path.stat().st_size
    whole, size = hashlib.sha256(), 0
    for file_path in sorted(p for p in path.rglob("*") if p.is_file()):
        with file_path.open("rb") as file:
            inner = hashlib.file_digest(file, "sha256").hexdigest()
        whole.update(f"{file_path.relative_to(path).as_posix()}\0{inner}\n".encode())
        size += file_path.stat().st_size
    return whole.hexdigest(), size


def run_job(
    name: str,
    config_type: type[ConfigT],
    work: Callable[[Job[ConfigT]], Mapping[str, object]],
    argv: Sequence[str] | None = None,
) -> int:
    """Run ``work`` as the job ``name`` on the run folder named in ``argv``; return the exit code.

    ``work`` returns a small summary, which becomes the ``finished`` event. If it returns because
    ``job.stopping`` was set, no ``finished`` event is written and the code is 130.
    """
    arguments = sys.argv[1:] if argv is None else argv
    if len(arguments) != 1:
        print(f"usage: python -m runners.{name} RUN_FOLDER", file=sys.stderr)
        return ExitCode.USAGE
    folder = RunFolder(Path(arguments[0]).absolute())
    config = config_type.model_validate_json(folder.config.read_bytes())
    # Every rank runs the same program; only rank 0 tells the story.
    leader = os.environ.get("RANK", "0") == "0"
    with EventWriter(folder.events if leader else Path(os.devnull)) as events:
        job = Job(folder, config, events, attempt=_attempts(folder.events) + 1)
        _stop_on_signals(job)
        events.started(name, attempt=job.attempt)
        return _work(job, work)


def _work(job: Job[ConfigT], work: Callable[[Job[ConfigT]], Mapping[str, object]]) -> int:
    try:
        summary = work(job)
    except MftError as error:
        _tell(job, str(error), error.exit_code)
        return error.exit_code
    except OSError as error:
        if error.errno not in _DISK_FULL:
            return _our_fault(job, error)
        # The disk that is full may be the one that the event log is on.
        _tell(job, f"{error.filename or job.folder.path}: {_DISK_FULL[error.errno]}", 1)
        return ExitCode.FAILED
    except Exception as error:  # noqa: BLE001 - our own fault, told whole and recorded
        # Libraries that are not Python's report a full disk in words only.
        if os.strerror(errno.ENOSPC) in str(error):
            where = getattr(job.config, "output_dir", None) or job.folder.path
            _tell(job, f"{where}: {_DISK_FULL[errno.ENOSPC]}", ExitCode.FAILED)
            return ExitCode.FAILED
        return _our_fault(job, error)
    if job.stopping:
        return ExitCode.INTERRUPTED
    job.events.finished(summary)
    return ExitCode.DONE


def _our_fault(job: Job[ConfigT], error: Exception) -> int:
    traceback.print_exc()
    sys.stderr.flush()
    with contextlib.suppress(OSError):
        job.events.notice("error", f"{type(error).__name__}: {error}", exit_code=ExitCode.FAILED)
    return ExitCode.FAILED


def _tell(job: Job[ConfigT], text: str, exit_code: int) -> None:
    print(f"error: {text}", file=sys.stderr, flush=True)
    with contextlib.suppress(OSError):
        job.events.notice("error", text, exit_code=exit_code)


def _attempts(events: Path) -> int:
    if not events.exists():
        # Ranks start together: another one may be here before rank 0 has made the log.
        return 0
    return sum(isinstance(event, Started) for event, _ in read_events(events))


def _stop_on_signals(job: Job[ConfigT]) -> None:
    def ask(_signum: int, _frame: FrameType | None) -> None:
        job.request_stop()

    signal.signal(signal.SIGTERM, ask)
    signal.signal(signal.SIGINT, ask)
