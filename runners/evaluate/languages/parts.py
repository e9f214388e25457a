"""What the compiled languages share: prepared parts, and compiling and running in one sandbox."""

import io
import tarfile
from collections.abc import Sequence
from pathlib import Path

from runners.evaluate.sandbox.base import Outcome, SandboxError
from runners.evaluate.verdicts import quoted

_NOT_COMPILED = 97
_COMPILE_AND_RUN = (
    'word=$1 program=$2; shift 2; "$@" >.compiler 2>&1 </dev/null || '
    f'{{ echo "$word"; cat .compiler >&2; exit {_NOT_COMPILED}; }}; '
    'rm -f .compiler proof.c proof.o; exec "$program"'
)


def compile_and_run(program: str, compiler: Sequence[str], word: str) -> list[str]:
    """The command that compiles and, if that succeeds, becomes ``program``.

    The compiler is silent when it is content, as warnings are no part of a verdict. When it is
    not, ``word`` is all of standard output: a program may end with any status, and must not know
    the word, so that ``refused`` can tell the two apart. The program finds no file beside it that
    it would not find the plain way.
    """
    return ["/bin/sh", "-c", _COMPILE_AND_RUN, "sh", word, program, *compiler]


def refused(outcome: Outcome, word: str) -> bool:
    """True when the compiler of ``compile_and_run`` said no, and nothing was run."""
    return outcome.exit_code == _NOT_COMPILED and outcome.stdout == f"{word}\n".encode()


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
