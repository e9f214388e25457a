"""Leaving at once when somebody ends the app, or its terminal goes.

Apart from the app because nothing of it can be relied on then: a terminal that is gone can block
the last write to it for ever.
"""

import asyncio
import os
import signal
import threading
import time
from collections.abc import Callable

_LEAVE_AT_MOST = 0.8
"""Seconds in which the app can leave by itself."""


def heed_signals(leave: Callable[[int], None]) -> None:
    """Call ``leave`` with the exit status when SIGTERM or SIGHUP comes, and see to it that we go.

    Call it on the running event loop. In another thread than the main one, which alone hears
    signals, whoever runs that one decides.
    """
    if threading.current_thread() is not threading.main_thread():
        return

    def end(code: int) -> None:
        threading.Thread(target=_exit_later, args=(code,), daemon=True).start()
        leave(code)

    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGHUP):
        loop.add_signal_handler(number, end, 128 + number)


def _exit_later(code: int) -> None:
    time.sleep(_LEAVE_AT_MOST)
    os._exit(code)
