"""Runs inside the sandbox: executes one program behind the reference's guard.

It imports nothing of ours. The first bytes on standard input are a token; it is written to the
real standard output after the program's last line, and nowhere else. Whatever the program prints
goes to memory and is dropped, as in the reference.
"""

import builtins
import contextlib
import faulthandler
import io
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

# Loaded before the guard: numpy needs some of what the guard takes away.
import numpy  # noqa: F401

_TAKEN = {
    builtins: ("exit", "quit", "help"),
    os: (
        *("kill", "system", "putenv", "remove", "removedirs", "rmdir", "fchdir", "setuid"),
        *("fork", "forkpty", "killpg", "rename", "renames", "truncate", "replace", "unlink"),
        *("fchmod", "fchown", "chmod", "chown", "chroot", "lchflags", "lchmod", "lchown"),
        *("getcwd", "chdir"),
    ),
    shutil: ("rmtree", "move", "chown"),
    subprocess: ("Popen",),
}
KEPT = 4096
"""Bytes of an exception's text that are told."""

_HIDDEN_MODULES = ("ipdb", "joblib", "resource", "psutil", "tkinter")


class _Unreadable(io.StringIO):
    """Standard streams as the reference gives them: writable, and reading raises."""

    def read(self, *_: object) -> str:
        raise OSError("standard input is closed")

    def readline(self, *_: object) -> str:  # type: ignore[override]
        raise OSError("standard input is closed")

    def readlines(self, *_: object) -> list[str]:  # type: ignore[override]
        raise OSError("standard input is closed")

    def readable(self) -> bool:
        return False


def guard() -> None:
    """Take away what the reference takes away."""
    faulthandler.disable()
    os.environ["OMP_NUM_THREADS"] = "1"
    for owner, names in _TAKEN.items():
        for name in names:
            setattr(owner, name, None)
    for name in _HIDDEN_MODULES:
        sys.modules[name] = None  # type: ignore[assignment]


def execute(text: str) -> str | None:
    """Run the program; None if it came to its end, else what stopped it."""
    guard()
    streams = _Unreadable()
    stdin, sys.stdin = sys.stdin, streams
    try:
        with contextlib.redirect_stdout(streams), contextlib.redirect_stderr(streams):
            exec(text, {})  # noqa: S102 - this is what the sandbox is for
    except BaseException as error:  # noqa: BLE001 - the reference counts every exception
        return "".join(traceback.format_exception_only(type(error), error))
    finally:
        sys.stdin = stdin
    return None


def main() -> None:
    """Read the token and the program, run it, and say how it went."""
    token = os.read(0, 64)
    answers = silence()
    text = Path(sys.argv[1]).read_bytes().decode("utf-8", "surrogatepass")
    finish(answers, token, text)


def silence() -> int:
    """Point the standard descriptors at nothing; return a copy of standard output."""
    answers = os.dup(1)
    nothing = os.open(os.devnull, os.O_RDWR)
    errors = os.dup(2)
    for fd in (0, 1, 2):
        os.dup2(nothing, fd)
    os.dup2(errors, 2)
    os.close(errors)
    return answers


def finish(answers: int, token: bytes, text: str) -> None:
    """Run the program and write the token, or what stopped it, to ``answers``; never returns."""
    write, leave = os.write, os._exit
    problem = execute(text)
    write(answers, token if problem is None else problem.encode("utf-8", "replace")[:KEPT])
    leave(0 if problem is None else 1)


if __name__ == "__main__":
    main()
