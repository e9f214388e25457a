"""The zip itself: the same generations give the same bytes, and it appears only when whole."""

import os
import zipfile
from pathlib import Path

from runners.benchmarks.tasks import TASKS
from runners.submission.checks import SubmissionFolder, task_file

# The first moment that a zip can name: a date of today would change the bytes.
_EPOCH = (1980, 1, 1, 0, 0, 0)
_UNIX = 3
_READABLE = 0o100644 << 16


def pack(folder: SubmissionFolder, target: Path) -> None:
    """Write the 13 files of ``folder`` to the zip ``target``, by a temporary name and a rename.

    Raises ``OSError`` when it cannot be written; nothing is left behind then.
    """
    target.parent.mkdir(parents=True, exist_ok=True)
    temporary = target.with_name(f".{target.name}.{os.getpid()}.part")
    try:
        with temporary.open("wb") as file:
            with zipfile.ZipFile(file, "w") as archive:
                for task in TASKS:
                    _add(archive, folder, task_file(task, folder.model_name))
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    finally:
        temporary.unlink(missing_ok=True)


def _add(archive: zipfile.ZipFile, folder: SubmissionFolder, name: str) -> None:
    entry = zipfile.ZipInfo(f"generations_{folder.model_name}/{name}", _EPOCH)
    entry.create_system = _UNIX
    entry.external_attr = _READABLE
    archive.writestr(entry, folder.read(name), zipfile.ZIP_DEFLATED, 9)
