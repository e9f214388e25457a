"""Where slow calls of the app go: named daemon threads, awaited from the event loop.

Textual's thread workers run in the loop's default executor, which the interpreter joins at exit, so
one slow read would keep the person waiting to quit; and ``call_from_thread`` blocks the worker for
a round trip. A lane is a daemon thread of our own: calls run in order, their results come back
through the loop, and quitting never waits for one. A lane also is what makes "one SQLite connection
in one thread" true without a lock.
"""

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from functools import partial
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")

_Waiting = tuple[asyncio.AbstractEventLoop, "asyncio.Future[Any]"]
_Call = tuple[_Waiting | None, Callable[[], Any]]


class Lane:
    """One thread that runs calls one after another; it starts with the first call."""

    def __init__(self, name: str) -> None:
        self.name = name
        self._calls: queue.SimpleQueue[_Call] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    async def call(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Run ``function`` in this lane and wait for it without blocking the loop.

        What it raises is raised here. A call that is cancelled before its turn never runs.
        """
        loop = asyncio.get_running_loop()
        future: asyncio.Future[T] = loop.create_future()
        self._put((loop, future), partial(function, *args, **kwargs))
        return await future

    def post(self, function: Callable[P, None], *args: P.args, **kwargs: P.kwargs) -> None:
        """Run ``function`` after what is in the lane already; for closing what the lane opened.

        Nobody waits for it, so what it raises goes where threads' errors go: to stderr.
        """
        self._put(None, partial(function, *args, **kwargs))

    def _put(self, waiting: _Waiting | None, function: Callable[[], Any]) -> None:
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name=self.name, daemon=True)
            self._thread.start()
        self._calls.put((waiting, function))

    def _work(self) -> None:
        while True:
            waiting, function = self._calls.get()
            if waiting is None:
                function()
                continue
            loop, future = waiting
            if future.cancelled():
                continue
            result, error = None, None
            try:
                result = function()
            except BaseException as raised:  # noqa: BLE001 - carried to whoever awaits
                error = raised
            # The loop may be closed by now: the app has gone, nobody waits for this.
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_settle, future, result, error)


def _settle(future: "asyncio.Future[Any]", result: Any, error: BaseException | None) -> None:
    if future.done():
        return
    if error is None:
        future.set_result(result)
    else:
        future.set_exception(error)


class Lanes:
    """The lanes of one app, by name."""

    def __init__(self) -> None:
        self._lanes: dict[str, Lane] = {}

    def __getitem__(self, name: str) -> Lane:
        return self._lanes.setdefault(name, Lane(name))
