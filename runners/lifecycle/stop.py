"""Asking a run to stop: a small file that its supervisor watches for.

A file, because it reaches the supervisor from any terminal, container or machine that shares the
state folder, and because it is still there if the supervisor is busy.
"""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from runners.errors import UsageError
from runners.lifecycle.folders import RunFolder
from runners.lifecycle.status import ENDED, write_whole

if TYPE_CHECKING:
    from db import RunRecord


class StopRequest(msgspec.Struct, frozen=True, kw_only=True):
    """``grace`` in seconds before the job is killed; None for what the run was launched with."""

    grace: float | None = None


def request_stop(run: "RunRecord", *, grace: float | None = None) -> None:
    """Ask the run's supervisor to stop its job; asking again with less grace shortens the wait.

    Returns at once: the run is ``stopping``, then ``stopped``. Raises ``UsageError`` when it has
    ended already.
    """
    if run.status in ENDED:
        raise UsageError(f"the run is not running: it {_PAST[run.status]}", where=run.id)
    request = StopRequest(grace=grace)
    write_whole(RunFolder(Path(run.folder)).stop_request, msgspec.json.encode(request))


def take_stop_request(folder: RunFolder) -> StopRequest | None:
    """The request, removed from the folder; None when nobody asked."""
    try:
        content = folder.stop_request.read_bytes()
    except OSError:
        return None
    folder.stop_request.unlink(missing_ok=True)
    try:
        return msgspec.json.decode(content, type=StopRequest)
    except msgspec.DecodeError:
        return StopRequest()


_PAST = {
    "finished": "finished",
    "failed": "failed",
    "stopped": "was stopped",
    "crashed": "crashed",
}
