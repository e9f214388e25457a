"""Brings prepared parts (build caches, libraries) out of the sandbox they were built in."""

import io
import tarfile
from pathlib import Path

from runners.evaluate.sandbox.base import Outcome, SandboxError
from runners.evaluate.verdicts import quoted


def unpack_into(folder: Path, outcome: Outcome, what: str) -> None:
    """Unpack the tar archive that a trusted build collected.

    Raises ``SandboxError`` with the build's own words when it failed.
    """
    if not outcome.ok:
        raise SandboxError(
            f"{what} could not be built: {quoted(outcome.stderr) or outcome.ended}",
            where=str(folder),
            fix="Run mft-tui doctor, and install again what it names.",
        )
    with tarfile.open(fileobj=io.BytesIO(outcome.stdout)) as tar:
        tar.extractall(folder, filter="data")
