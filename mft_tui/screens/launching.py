"""A launch as the app sees it: started in a process of its own, followed, told.

Apart from the other actions because it outlives the screen that asked for it: who leaves the wizard
while a large model is hashed still hears what came of it.
"""

import asyncio
from typing import TYPE_CHECKING, ClassVar

from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static

from mft_tui.screens.ask import BOX
from mft_tui.widgets.quantities import bar, size

if TYPE_CHECKING:
    from mft_tui.app import MftApp
    from runners.lifecycle.detached import Hashing, Launcher

_LOOK = 0.1
_SHOW_AFTER = 10
"""Looks that find it hashing before that is shown: most launches are through by then."""


class HashingScreen(ModalScreen[None]):
    """A launch that takes its time: its inputs are hashed first, so that a replay can tell them."""

    DEFAULT_CSS = BOX.format(name="HashingScreen")
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Go on in the background", id="hashing.leave"),
        Binding("g", "give_up", "Give up", id="hashing.give_up"),
    ]

    def __init__(self, name: str, launcher: "Launcher") -> None:
        super().__init__()
        self._name, self._launcher = name, launcher
        self._over = False

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"Launching {self._name}: its inputs are hashed first", markup=False)
            yield Static(id="share", classes="hint")
            yield Static("[b]esc[/b] goes on in the background   [b]g[/b] gives up", classes="hint")

    def show(self, news: "Hashing") -> None:
        """Show how far it is."""
        share = news.done / news.total if news.total else 0.0
        words = f"{bar(share, 30)} {share:4.0%} of {size(news.total)}"
        for line in self.query("#share").results(Static):
            line.update(words)

    def end(self) -> None:
        """Go away, now or, with another screen above it, when that has gone."""
        self._over = True
        if self.is_current:
            self.dismiss()

    def on_screen_resume(self) -> None:
        if self._over:
            self.dismiss()

    def action_leave(self) -> None:
        self.dismiss()

    async def action_give_up(self) -> None:
        from mft_tui.app import MftApp

        assert isinstance(self.app, MftApp)
        await self.app.lanes["launch"].call(self._launcher.give_up)
        self.dismiss()


async def follow_launch(app: "MftApp", name: str, launcher: "Launcher") -> str | None:
    """See a launch to its end, and say how it ended; the run's id, or None."""
    from runners.lifecycle.detached import Hashing, Launched, Refused

    app.launches[launcher.run_id] = launcher
    screen, looks = None, 0
    try:
        while True:
            news = await app.lanes["launch"].call(launcher.news)
            if isinstance(news, Launched | Refused):
                break
            if isinstance(news, Hashing) and news.total:
                looks += 1
                if looks == _SHOW_AFTER:
                    screen = HashingScreen(name, launcher)
                    app.push_screen(screen)
                if screen is not None:
                    screen.show(news)
            await asyncio.sleep(_LOOK)
        await app.lanes["launch"].call(launcher.forget)
    finally:
        del app.launches[launcher.run_id]
        if screen is not None and screen.is_attached:
            screen.end()
    app.runs_changed.publish(None)
    if isinstance(news, Refused):
        app.notify(news.words, title=f"{name} was not launched", severity="error", timeout=15)
        return None
    return launcher.run_id
