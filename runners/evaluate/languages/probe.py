"""Small questions about programs on this machine, asked in the same way by every language."""

import os
import subprocess
from functools import lru_cache
from pathlib import Path

from runners.evaluate.sandbox.base import Mount

_SYSTEM = (Path("/usr"), Path("/bin"), Path("/lib"), Path("/lib64"))


@lru_cache(maxsize=64)
def answer(*argv: str, patience: float = 20.0) -> str | None:
    """What a program prints when asked (both streams), stripped; None when it fails."""
    try:
        done = subprocess.run(argv, capture_output=True, timeout=patience, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired):
        return None
    if done.returncode != 0:
        return None
    return (done.stdout or done.stderr).decode("utf-8", "replace").strip()


def first_line(*argv: str) -> str:
    """The first line of the answer: usually name and version. Empty when there is none."""
    return (answer(*argv) or "").partition("\n")[0]


def is_file(*places: Path) -> bool:
    """True when one of the places is a file."""
    return any(place.is_file() for place in places)


def in_system(path: Path) -> bool:
    """True when the sandbox shows ``path`` anyway, because it lies in a system folder."""
    return any(path.is_relative_to(folder) for folder in _SYSTEM)


def shown_at(folder: Path, target: str) -> tuple[str, tuple[Mount, ...]]:
    """The path of ``folder`` inside the sandbox, and the mount that this takes, if any."""
    real = Path(os.path.realpath(folder))
    if in_system(real):
        return str(real), ()
    return target, (Mount(real, target),)
