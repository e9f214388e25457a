"""Workers whose errors are told: no trouble of a read ends the app, and none is hidden.

Textual's ``work`` either ends the whole app when a worker raises or, with ``exit_on_error=False``,
drops what was raised. Neither is what a person watching a job wants of a busy disk. Every worker
of the app is declared with ``guarded`` instead: what the person can act on is shown as a message,
and what is our own fault is shown too, with its traceback in ``app.log`` of the state folder.
"""

import functools
import time
import traceback
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import TYPE_CHECKING, Any, Concatenate, ParamSpec, TypeVar, cast

from textual import work
from textual.dom import DOMNode

if TYPE_CHECKING:
    from textual.worker import Worker

    from mft_tui.app import MftApp

P = ParamSpec("P")
N = TypeVar("N", bound=DOMNode)

_Method = Callable[Concatenate[N, P], Coroutine[Any, Any, None]]


def guarded(
    *, group: str, exclusive: bool = False
) -> Callable[[_Method[N, P]], "Callable[Concatenate[N, P], Worker[None]]"]:
    """Make an async method a worker of its widget; an ``exclusive`` one ends others of its group.

    The method ends where it raised; ``MftApp.tell_trouble`` says so.
    """

    def decorate(method: _Method[N, P]) -> "Callable[Concatenate[N, P], Worker[None]]":
        @functools.wraps(method)
        async def told(self: N, *args: P.args, **kwargs: P.kwargs) -> None:
            try:
                await method(self, *args, **kwargs)
            except Exception as error:  # noqa: BLE001 - the one place where a worker's errors go
                app = cast("MftApp", self.app)
                # A screen that is being taken apart has neither its parts nor anybody to tell.
                if app.is_running and (self is app or self.is_attached):
                    app.tell_trouble(error)

        return work(group=group, exclusive=exclusive)(told)

    return decorate


def keep_fault(log: Path, error: Exception) -> str:
    """Write the traceback of a fault of ours down; a sentence that says where it is."""
    text = "".join(traceback.format_exception(error))
    try:
        log.parent.mkdir(parents=True, exist_ok=True)
        with log.open("a", encoding="utf-8") as file:
            file.write(f"{time.strftime('%Y-%m-%dT%H:%M:%S%z')} {text}\n")
    except OSError as trouble:
        return f"Its traceback could not be kept ({trouble.strerror})."
    return f"Its traceback is in {log}."
