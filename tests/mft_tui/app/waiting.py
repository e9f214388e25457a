"""Waiting for what a screen will show, because what it shows comes from other threads."""

import asyncio
import time
from collections.abc import Callable
from typing import Any

from textual.pilot import Pilot


async def until(
    pilot: Pilot[Any], holds: Callable[[], object], seconds: float = 45.0, what: str = ""
) -> None:
    """Let the app go on until ``holds``; fail when it does not within ``seconds``."""
    end = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < end, f"{what} never came true on {pilot.app.screen}"
        await asyncio.sleep(0.02)
        await pilot.pause()
