"""First-generation checkpoints, converted the first time they are used to generate.

Qwen v1, ChatGLM2 and Baichuan 7B are converted into a cache below the state folder, keyed by what
the checkpoint holds, so that it happens once whatever the number of runs, ranks and machines that
share it. Training converts into its own run folder instead, because its adapter names that base.
"""

import fcntl
import hashlib
from collections.abc import Callable
from pathlib import Path

from runners.errors import MftError
from runners.lifecycle.folders import state_home
from runners.models.convert import convert_checkpoint
from runners.models.families import detect_family, read_model_config, weight_files


def native_folder(
    folder: Path,
    *,
    cache: Path | None = None,
    told: Callable[[str], None] = lambda _text: None,
) -> Path:
    """The folder to load in place of the checkpoint ``folder``: itself, or its conversion.

    ``told`` hears a sentence when something is converted. Raises ``UsageError`` for a variant that
    does not convert and ``MissingInputError`` for a checkpoint without weights.
    """
    family = _first_generation(folder)
    if family is None:
        return folder
    home = cache if cache is not None else state_home() / "converted"
    target = home / f"{folder.name}-{_digest(folder)}"
    if target.is_dir():
        return target
    home.mkdir(parents=True, exist_ok=True)
    # The lock keeps other ranks and runs waiting; it goes with the process that holds it.
    with (home / f".{target.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not target.is_dir():
            told(f"the {family} checkpoint is converted to its native format once, in {target}")
            convert_checkpoint(folder, target)
    return target


def _first_generation(folder: Path) -> str | None:
    """The family's name if it has to be converted. Any model that transformers reads will do."""
    try:
        family = detect_family(read_model_config(folder))
    except MftError:
        return None
    return family.name if family.first_generation else None


def _digest(folder: Path) -> str:
    """What the checkpoint holds, by its settings and the sizes and times of its files.

    Hashing the weights themselves would take longer than converting them.
    """
    digest = hashlib.sha256((folder / "config.json").read_bytes())
    others = (path for path in folder.iterdir() if path.is_file())
    for path in sorted({*weight_files(folder), *others}):
        state = path.stat()
        digest.update(f"{path.name}\0{state.st_size}\0{state.st_mtime_ns}\0".encode())
    return digest.hexdigest()[:12]
