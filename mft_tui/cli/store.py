"""The person's store, as commands open it: to change it, or to look at what can be seen of it."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING

from mft_tui.cli.output import console
from runners.lifecycle.folders import StateFolder

if TYPE_CHECKING:
    from db import RunRecord, Store, StoreError


@contextmanager
def opened_store(*, read_only: bool = False) -> Iterator["Store"]:
    """The store; what it has to say goes to stderr. Raises ``db.StoreError``."""
    from db import open_store

    with open_store(StateFolder.default().database, read_only=read_only) as store:
        for warning in store.warnings:
            console.print(f"warning: {warning}", markup=False, soft_wrap=True)
        yield store


@contextmanager
def store_to_read() -> Iterator["Store"]:
    """The store for a command that only shows things: it may be one that cannot be written.

    Raises ``db.StoreError`` when it cannot be read either.
    """
    from db import StoreFullError, StoreReadOnlyError

    with ExitStack() as stack:
        try:
            store = stack.enter_context(opened_store())
        except (StoreReadOnlyError, StoreFullError) as error:
            say_as_it_was(error)
            store = stack.enter_context(opened_store(read_only=True))
        yield store


def seen(store: "Store", run_id: str) -> "RunRecord":
    """The run of that id or prefix as it stands now; of a store that takes nothing, as it stood."""
    from db import StoreBusyError, StoreFullError, StoreReadOnlyError
    from runners.lifecycle.liveness import refresh_run

    run = store.get_run(run_id)
    try:
        return refresh_run(store, run)
    except (StoreBusyError, StoreFullError, StoreReadOnlyError) as error:
        say_as_it_was(error)
        return run


def seen_all(store: "Store") -> None:
    """Find the dead among all runs; of a store that takes nothing, not."""
    from db import StoreBusyError, StoreFullError, StoreReadOnlyError
    from runners.lifecycle.liveness import refresh

    try:
        refresh(store)
    except (StoreBusyError, StoreFullError, StoreReadOnlyError) as error:
        say_as_it_was(error)


def say_as_it_was(error: "StoreError") -> None:
    """Warn that what follows may be old, and why."""
    console.print(
        f"warning: {error.where}: {error.what}; shown as it was last written",
        markup=False,
        soft_wrap=True,
    )
