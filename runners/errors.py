"""The errors a person can do something about, and the exit codes they lead to.

An error says what is wrong, where, and what to do. Jobs and commands raise one; whoever is
outermost prints it once, without a traceback, and leaves with its exit code. Anything that is not
an ``MftError`` is our own fault and keeps its traceback.
"""

from enum import IntEnum


class ExitCode(IntEnum):
    """What a command's exit status means; other programs rely on these."""

    DONE = 0
    FAILED = 1
    USAGE = 2
    OUT_OF_TOLERANCE = 3
    REFUSED = 4
    MISSING = 5
    INTERRUPTED = 130


class MftError(Exception):
    """Something went wrong that the person can act on.

    ``what`` is one sentence; ``where`` is a path, ``file:line`` or config key; ``fix`` says what to
    do about it.
    """

    exit_code = ExitCode.FAILED

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        located = f"{self.where}: {self.what}" if self.where else self.what
        return f"{located}\n  {self.fix}" if self.fix else located

    def __reduce__(self) -> tuple[object, ...]:
        # The default recipe loses keyword arguments, and errors cross process pools.
        return (_rebuild, (type(self), self.what, self.where, self.fix))


def _rebuild(kind: type[MftError], what: str, where: str | None, fix: str | None) -> MftError:
    return kind(what, where=where, fix=fix)


class JobFailedError(MftError):
    """The job began and could not be finished."""


class UsageError(MftError):
    """The command line or a config asks for something that makes no sense."""

    exit_code = ExitCode.USAGE


class OutOfToleranceError(MftError):
    """A replay ran, and its results differ by more than the tolerance."""

    exit_code = ExitCode.OUT_OF_TOLERANCE


class RefusedError(MftError):
    """What was asked is possible but unsafe or against the rules, so it is not done."""

    exit_code = ExitCode.REFUSED


class MissingInputError(MftError):
    """A file, folder, model or program that is needed is not there."""

    exit_code = ExitCode.MISSING
