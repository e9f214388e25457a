"""What the compiled languages share: prepared parts, and compiling and running in one sandbox."""

import io
import tarfile
from pathlib import Path

from runners.evaluate.sandbox.base import Outcome, SandboxError
from runners.evaluate.verdicts import quoted

NOT_COMPILED = 97
"""Status of ``COMPILE_AND_RUN`` when the compiler said no. A program that ends with it has failed
all the same; only the word for it differs."""

COMPILE_AND_RUN = (
    'program=$1; shift; "$@" >.compiler 2>&1 </dev/null || '
    f'{{ cat .compiler >&2; exit {NOT_COMPILED}; }}; exec "$program"'
)
"""For ``sh -c``: the program to run, then the compiler's command. The compiler is silent when it
is content, as warnings are no part of a verdict."""


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
