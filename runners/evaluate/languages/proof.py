"""How a program proves, under ``--strict``, that its tests ran to their end.

By the reference's rule an early exit with status 0 passes. Here the code that stands *behind* the
tests writes a word to standard output, made anew for each program, and only a program that got
there has written it. The word is part of the program, so this tells ends from early ends, not
honest programs from forgers: code that searches its own file or memory for the word can print it,
as in any harness that shares a process with what it judges. What weakens the tests themselves (a
redefined ``assert``) is no early end either.
"""

import hashlib
import secrets
from dataclasses import replace

from runners.evaluate.languages.base import Judgement
from runners.evaluate.sandbox.base import Outcome

NOT_ENDED = "the program ended before its tests were done"

COMPILE_PROOF = 'cc=$1; shift; "$cc" -x c -c proof.c -o proof.o && exec "$@"'
"""For ``sh -c``: a C compiler, then the command that links ``proof.o`` with ``WRAP_MAIN``."""

WRAP_MAIN = "-Wl,--wrap=main"
"""Tells the linker that the program starts in ``proof.c``'s main and not in its own."""

_PROOF_C = """int fflush(void *);
long write(int, const void *, unsigned long);
int __real_main(int, char **, char **);

int __wrap_main(int count, char **words, char **environment) {
    static const char word[] = "\\n%s\\n";
    int status = __real_main(count, words, environment);
    if (status == 0) {
        fflush(0);
        write(1, word, sizeof word - 1);
    }
    return status;
}
"""


def new_word() -> str:
    """A word that no program can know in advance; an identifier in every language."""
    return f"Done{secrets.token_hex(16)}"


def new_secret() -> bytes:
    """The bytes whose digest a Python program's harness gives back after the last line."""
    return secrets.token_bytes(16)


def digest_of(secret: bytes) -> bytes:
    """What the harness says when the program came to its end."""
    return hashlib.sha256(secret).digest()


def proof_c(word: str) -> bytes:
    """A C file whose main calls the program's and writes the word when that returned 0."""
    return (_PROOF_C % word).encode()


def proven(
    judgement: Judgement, outcome: Outcome, word: str | None, *, times: int = 1
) -> Judgement:
    """``judgement``, unless it is a pass without the word; every judgement where none is asked."""
    if word is None or not judgement.passed or outcome.stdout_end.count(word.encode()) >= times:
        return judgement
    return replace(judgement, status="runtime_error", detail=NOT_ENDED)
