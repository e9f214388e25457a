"""How an attempt ended, judged from its exit status and its last events.

Exit status alone says too little: a launcher turns every death of a rank into 1, and a job that was
killed never got to say anything. So what the job itself wrote counts first.
"""

import shutil
import signal
from dataclasses import dataclass

from runners.errors import ExitCode
from runners.lifecycle.events import Finished, Notice, Started, read_events
from runners.lifecycle.folders import RunFolder

_CONSOLE_TAIL = 16_384
_FULL_BYTES = 65_536
"""With less than this free, a job that could not even say why it ended was out of disk."""


@dataclass(frozen=True)
class Ending:
    """The status a run ends with, its exit code, and a sentence for the person ("" if fine)."""

    status: str
    exit_code: int
    message: str = ""


def judge(folder: RunFolder, events_before: int, code: int | None, *, asked: bool) -> Ending:
    """Judge an attempt whose events begin at byte ``events_before``.

    ``code`` is the job's exit status as subprocess gives it (negative for a signal), None when it
    could not be started. ``asked`` tells whether it had been asked to stop.
    """
    started, finished, error = _last_words(folder, events_before)
    if code is None:
        return Ending("failed", ExitCode.FAILED, _last_line(folder) or "the job did not start")
    if code == 0 and (finished or not asked):
        return Ending("finished", ExitCode.DONE)
    if asked or code == ExitCode.INTERRUPTED:
        return Ending("stopped", ExitCode.INTERRUPTED, error.text if error else "")
    if error is not None:
        told = error.exit_code if error.exit_code is not None else code
        return Ending("failed", told if told > 0 else ExitCode.FAILED, error.text)
    if code < 0:
        return Ending("crashed", 128 - code, _killed(-code))
    last_line = _last_line(folder)
    if started and shutil.disk_usage(folder.path).free < _FULL_BYTES:
        return Ending("failed", ExitCode.FAILED, f"{folder.path}: the disk is full")
    if started and not last_line.startswith("error:"):
        return Ending(
            "crashed",
            code,
            f"the job ended with status {code} and without a word; the log has the rest",
        )
    message = last_line.removeprefix("error:").strip()
    return Ending("failed", code, message or f"the job ended with status {code}")


def _last_words(folder: RunFolder, offset: int) -> tuple[bool, bool, Notice | None]:
    started, finished, error = False, False, None
    if folder.events.exists():
        for event, _ in read_events(folder.events, offset):
            match event:
                case Started():
                    started = True
                case Finished():
                    finished = True
                case Notice(level="error"):
                    error = event
    return started, finished, error


def _killed(signum: int) -> str:
    try:
        name = signal.Signals(signum).name
    except ValueError:
        name = f"signal {signum}"
    hint = " (kill -9, or the kernel out of memory)" if signum == signal.SIGKILL else ""
    return f"the job was killed by {name}{hint}"


def _last_line(folder: RunFolder) -> str:
    """The last line of the console that is not blank."""
    try:
        with folder.console.open("rb") as file:
            file.seek(max(0, file.seek(0, 2) - _CONSOLE_TAIL))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return next((line.strip() for line in reversed(lines) if line.strip()), "")
