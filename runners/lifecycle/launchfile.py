"""``launch.json``: how a run's job is started, so that it can be started again.

Written once by the launcher and read by each attempt's supervisor: a resume uses the very same
command, folder and environment as the first attempt.
"""

from pathlib import Path

import msgspec

from runners.errors import MissingInputError
from runners.lifecycle.status import write_whole

DEFAULT_GRACE = 120.0
"""Seconds between asking a job to stop and killing it: time for one step and one checkpoint."""


class Launch(msgspec.Struct, frozen=True, kw_only=True):
    """How to start a job. ``env`` is only what is added to the environment."""

    run_id: str
    kind: str
    name: str
    argv: list[str]
    env: dict[str, str]
    cwd: str
    created_at: float
    database: str
    parent_id: str | None = None
    replay_of: str | None = None
    grace: float = DEFAULT_GRACE
    model_name: str = ""
    data_fingerprint: str = ""
    config_hash: str = ""
    origins: dict[str, str] = {}
    """Where each config value came from: flag, environment, file, user defaults, default."""


def read_launch(path: Path) -> Launch:
    """Read it. Raises ``MissingInputError`` when it is not there or damaged."""
    try:
        return msgspec.json.decode(path.read_bytes(), type=Launch)
    except FileNotFoundError as error:
        raise MissingInputError("the run folder has no launch.json", where=str(path)) from error
    except msgspec.DecodeError as error:
        raise MissingInputError(f"damaged: {error}", where=str(path)) from error


def write_launch(path: Path, launch: Launch) -> None:
    """Write it whole. Raises ``OSError``."""
    write_whole(path, msgspec.json.format(msgspec.json.encode(launch), indent=2) + b"\n")
