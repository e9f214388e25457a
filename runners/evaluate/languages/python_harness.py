"""Runs inside the sandbox: executes one program behind the reference's guard.

It imports nothing of ours. Whatever the program prints goes to memory and is dropped, as in the
reference. That the program came to its end is told by a digest of a secret: the secret waits unread
in a pipe, so it stands in no frame, object or file while the program runs, and the digest is
nowhere. A program that knows this file can still do what stands behind its last line itself, as in
any harness that shares a process; one that looks around and copies what it finds cannot.
"""

import builtins
import faulthandler
import fcntl
import hashlib
import importlib
import io
import os
import shutil
import subprocess
import sys
import traceback
from pathlib import Path

# Loaded before the guard: numpy needs some of what the guard takes away.
import numpy  # noqa: F401

# What most programs import. The fork server loads it once for all of them, and a program that looks
# at what is loaded must find the same here.
for _name in ("collections", "copy", "datetime", "functools", "heapq", "itertools", "math"):
    importlib.import_module(_name)
for _name in ("re", "statistics", "string", "typing"):
    importlib.import_module(_name)

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
SECRET_BYTES = 16
ANSWERS_FD, SECRET_FD = 3, 4

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
    # No context manager: its ``__exit__`` could be replaced by one that swallows an exception.
    show = traceback.format_exception_only
    sys.stdin = sys.stdout = sys.stderr = _Unreadable()
    try:
        exec(text, {})  # noqa: S102 - this is what the sandbox is for
    except BaseException as error:  # noqa: BLE001 - the reference counts every exception
        return "".join(show(type(error), error))
    return None


def prepare() -> str:
    """Put the secret in its place and return the program."""
    lay_out(os.dup(1), os.read(0, SECRET_BYTES), os.dup(2))
    return Path(sys.argv[1]).read_bytes().decode("utf-8", "surrogatepass")


def lay_out(answers: int, secret: bytes, errors: int) -> None:
    """Put the descriptors where ``finish`` looks for them; a program finds these and no others.

    Standard input and output are nothing, 2 takes what the interpreter itself has to say.
    """
    nothing = os.open(os.devnull, os.O_RDWR)
    secret_out, secret_in = os.pipe()
    os.write(secret_in, secret)
    # Out of the way of the numbers that they get.
    held = [fcntl.fcntl(fd, fcntl.F_DUPFD, 64) for fd in (errors, answers, secret_out)]
    for fd in (0, 1):
        os.dup2(nothing, fd)
    for fd, source in zip((2, ANSWERS_FD, SECRET_FD), held, strict=True):
        os.dup2(source, fd, inheritable=fd == 2)
    os.closerange(SECRET_FD + 1, 4096)


def finish(text: str) -> None:
    """Run the program and tell its end, or what stopped it; never returns."""
    read, write, leave, digest = os.read, os.write, os._exit, hashlib.sha256
    problem = execute(text)
    if problem is None:
        write(ANSWERS_FD, digest(read(SECRET_FD, SECRET_BYTES)).digest())
        leave(0)
    write(ANSWERS_FD, problem.encode("utf-8", "replace")[:KEPT])
    leave(1)


if __name__ == "__main__":
    finish(prepare())
