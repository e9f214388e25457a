"""What can go wrong with the store, told so that a person can act on it.

The same three attributes as the errors of the rest of the program (what, where, fix) and an exit
code, but a family of its own: the database knows nobody, so it cannot borrow theirs.
"""


class StoreError(Exception):
    """The store cannot do what was asked.

    ``what`` is one sentence; ``where`` is a path, a run id or a position; ``fix`` says what to do;
    ``exit_code`` is what a command should leave with.
    """

    exit_code = 1

    def __init__(self, what: str, *, where: str | None = None, fix: str | None = None) -> None:
        super().__init__(what)
        self.what = what
        self.where = where
        self.fix = fix

    def __str__(self) -> str:
        located = f"{self.where}: {self.what}" if self.where else self.what
        return f"{located}\n  {self.fix}" if self.fix else located


class StoreMissingError(StoreError):
    """There is no store to open, or no folder to make one in."""

    exit_code = 5


class StoreBusyError(StoreError):
    """Another process held the store for longer than anybody should wait."""


class StoreFullError(StoreError):
    """The disk is full. Nothing of the refused change was kept; it can be tried again."""


class StoreReadOnlyError(StoreError):
    """Something was to be written, and the store cannot be."""


class StoreDamagedError(StoreError):
    """The file is no database, or one whose pages contradict each other."""


class StoreNewerError(StoreError):
    """A newer version of this program wrote the store."""

    exit_code = 4


class RunNotFoundError(StoreError):
    """No run has that id or prefix."""

    exit_code = 5


class AmbiguousRunError(StoreError):
    """Several runs' ids begin like that."""

    exit_code = 2


class DuplicateRunError(StoreError):
    """A run of that id is there already."""

    exit_code = 4


class QueryError(StoreError):
    """A filter, sort or column that makes no sense; ``where`` shows the place."""

    exit_code = 2
