"""The Textual app: themes, the pulse that notices change, signals, and which screen is on top.

It only observes: jobs live in processes of their own, and closing the app, losing the terminal or
killing it leaves them untouched. Nothing of the database, the configs or plotting is imported here;
the first paint comes before them.
"""

import asyncio
import contextlib
import re
import sys
import time
from collections.abc import Callable, Coroutine, Iterable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from textual import events
from textual.app import App, SystemCommand
from textual.binding import Binding, BindingType
from textual.notifications import SeverityLevel
from textual.screen import Screen
from textual.signal import Signal

from db.errors import StoreError
from mft_tui.screens.home import HomeScreen
from mft_tui.screens.preferences import Preferences, load_preferences, save_preferences
from mft_tui.screens.too_small import LEAST_HEIGHT, LEAST_WIDTH, TooSmall
from mft_tui.screens.tracker import SharedStore, Tracker
from mft_tui.signals import heed_signals
from mft_tui.widgets.guard import guarded, keep_fault
from mft_tui.widgets.lanes import Lanes
from mft_tui.widgets.themes import THEMES
from runners.errors import MftError
from runners.lifecycle.folders import StateFolder

if TYPE_CHECKING:
    from db import Store
    from db.records import RunRecord, RunRow
    from runners.lifecycle.detached import Launcher, Refused

T = TypeVar("T")

_FUNCTION_KEY = re.compile(r"f\d+")
_LONG_JOB = 60.0
_LIVENESS_PULSES = 5
_SAME_TROUBLE_AFTER = 60.0
_LOOK_AT_MOST = 0.4


class MftApp(App[int]):
    """mft-tui."""

    TITLE = "mft-tui"
    ENABLE_COMMAND_PALETTE = True
    # A default screen loads no style sheet itself; absolute, so that a subclass finds it too.
    CSS_PATH = Path(__file__).with_name("screens") / "home.tcss"
    CSS = """
    ToastRack { margin-bottom: 1; }
    Input, Input:focus { border: none; height: 1; padding: 0 1; background: $boost; }
    OptionList, OptionList:focus, SelectionList, SelectionList:focus {
        border: none; padding: 0; background: transparent;
        text-wrap: nowrap; text-overflow: ellipsis;
    }
    OptionList > .option-list--option-highlighted {
        background: $primary 25%; color: $foreground; text-style: bold;
    }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("question_mark", "help", "Keys", key_display="?", id="app.help"),
        # Where a text is typed, ? is a letter.
        Binding("f1", "help", "Keys", id="app.help_anywhere"),
        Binding(
            "ctrl+p", "command_palette", "Palette", show=False, priority=True, id="app.palette"
        ),
        Binding("ctrl+q", "quit", "Quit", show=False, priority=True, id="app.quit"),
        Binding("ctrl+z", "suspend_process", "Suspend", show=False, id="app.suspend"),
        Binding("ctrl+t", "next_theme", "Theme", show=False, id="app.theme"),
    ]

    def __init__(
        self,
        state: StateFolder | None = None,
        *,
        clock: Callable[[], float] = time.time,
        pulse: float = 1.0,
    ) -> None:
        super().__init__()
        self.state = state or StateFolder.default()
        self.clock = clock
        self.lanes = Lanes()
        store = SharedStore(self.state)
        self.tracker = Tracker(store, self.lanes["store"])
        self.actor = Tracker(store, self.lanes["actions"])
        self.planner = Tracker(store, self.lanes["plans"])
        self._watchman = Tracker(store, self.lanes["liveness"])
        self.runs_changed: Signal[None] = Signal(self, "runs-changed")
        self.live: dict[str, RunRow] = {}
        """Runs that go on now, by id, as the last pulse saw them."""
        self.launches: dict[str, Launcher] = {}
        """Launches under way, by the id that their run will have."""
        self.under_way: set[tuple[str, str]] = set()
        """What is being done, and for what, that is not to be begun twice."""
        self._background: set[asyncio.Task[object]] = set()
        self.preferences: Preferences = load_preferences(self._preferences_path)
        self._pulse = pulse
        self._version: object = None
        self._beating = False
        self._troubles: dict[str, float] = {}
        for theme in THEMES:
            self.register_theme(theme)
        known = {theme.name for theme in THEMES}
        self.theme = self.preferences.theme if self.preferences.theme in known else "dark"
        if self.preferences.keys:
            self.set_keymap(self.preferences.keys)

    @property
    def _preferences_path(self) -> Path:
        return self.state.root / "app.json"

    def get_default_screen(self) -> HomeScreen:
        return HomeScreen()

    def on_mount(self) -> None:
        if not self.is_headless:
            heed_signals(self._leave_at_once)
        self.theme_changed_signal.subscribe(self, self._keep_theme)
        self.call_after_refresh(self._begin)

    def _begin(self) -> None:
        self.set_interval(self._pulse, self._beat)
        # Not a part of the pulse: while one run writes, every pulse has its change to tell, and
        # the death of another would wait for a quiet one.
        self.set_interval(_LIVENESS_PULSES * self._pulse, self._look_for_the_dead)
        self._beat()
        self._tell_left_behind()
        if self.preferences.wizard or self.preferences.monitoring:
            self._go_back(self.preferences.monitoring)

    @guarded(group="left")
    async def _tell_left_behind(self) -> None:
        """Say what came of launches that went on when the app was closed, if it was nothing."""

        def read() -> "list[Refused]":
            from runners.lifecycle.detached import left_behind

            return left_behind(self.state)

        for refused in await self.lanes["launch"].call(read):
            self.notify(refused.words, title="Not launched", severity="error", timeout=15)

    @guarded(group="reopen")
    async def _go_back(self, run_ids: list[str]) -> None:
        """Open what was open when the app was left, as far as its runs are still there."""
        from mft_tui.screens.monitor import MonitorScreen

        kept: list[str] = []
        if run_ids:
            runs = await self.tracker.ask(lambda store: [*_still_kept(store, run_ids)])
            kept = self.preferences.monitoring = [run.id for run in runs]
        if len(self.screen_stack) > 1:
            return  # the person was faster
        if self.preferences.wizard:
            self.open_wizard()
        if kept:
            self.push_screen(MonitorScreen(kept))

    def open_wizard(self) -> None:
        """The wizard, at the draft that was worked on last."""
        from mft_tui.screens.wizard import WizardScreen

        self.push_screen(WizardScreen(), self._wizard_left)
        self.preferences.wizard = True
        self.remember()

    def _wizard_left(self, answer: None) -> None:
        self.preferences.wizard = False
        self.remember()

    # The pulse: notice that something changed, and say so

    def _beat(self) -> None:
        # A beat that takes long (the first one imports the database) is not overtaken.
        if not self._beating:
            self._beating = True
            self._notice()

    @guarded(group="pulse")
    async def _notice(self) -> None:
        try:
            version = self.tracker.version()
            if version != self._version:
                await self._see_live()
                self._version = version
                self.runs_changed.publish(None)
        finally:
            self._beating = False

    async def _see_live(self) -> None:
        from db.records import RunQuery

        query = RunQuery(filter="status:queued,running,stopping", limit=200)
        page = await self.tracker.ask(lambda store: store.list_runs(query))
        now_live = {row.run.id: row for row in page.rows}
        gone = [run_id for run_id in self.live if run_id not in now_live]
        self.live = now_live
        for run in await self.tracker.ask(lambda store: [*_still_kept(store, gone)]):
            self._tell_ended(run)

    @guarded(group="liveness", exclusive=True)
    async def _look_for_the_dead(self) -> None:
        """Settle the runs of this machine whose supervisor is gone; the pulse sees the change."""
        if not self.live:
            return

        def look(store: "Store") -> None:
            from runners.lifecycle import liveness

            liveness.refresh(store)

        await self._watchman.ask(look)

    def _tell_ended(self, run: "RunRecord") -> None:
        title = "".join(letter for letter in run.name or run.id if letter.isprintable())
        self.notify(
            f"{title}: {run.message or run.status}",
            title=f"{run.kind} {run.status}",
            severity="error" if run.status in {"failed", "crashed"} else "information",
        )
        if self.clock() - (run.started_at or run.created_at) >= _LONG_JOB:
            self.bell()
            if self._driver is not None and not self.is_headless:
                # OSC 9 is a desktop notification where the terminal has them, nothing elsewhere.
                self._driver.write(f"\x1b]9;mft-tui: {run.kind} {title} {run.status}\x07")

    def notify(
        self,
        message: str,
        *,
        title: str = "",
        severity: SeverityLevel = "information",
        timeout: float | None = None,
        markup: bool = False,
    ) -> None:
        """Tell something. What a file, a person or the store said is never read as markup."""
        del markup
        super().notify(message, title=title, severity=severity, timeout=timeout, markup=False)

    def tell_trouble(self, error: Exception) -> None:
        """Say what a worker could not do: once a minute at most, as many ask again and again.

        What is no error of the person's or the machine's is ours, and its traceback is kept.
        """
        ours = not isinstance(error, MftError | StoreError | OSError)
        words = f"{type(error).__name__}: {error}" if ours else str(error)
        now = time.monotonic()
        if now - self._troubles.get(words, -_SAME_TROUBLE_AFTER) < _SAME_TROUBLE_AFTER:
            return
        self._troubles[words] = now
        title = "Could not be done"
        if ours:
            title = "A fault of mft-tui"
            words += f"\n{keep_fault(self.state.root / 'app.log', error)}"
        self.notify(words, title=title, severity="error", timeout=15)

    def in_background(self, deed: Coroutine[Any, Any, T]) -> "asyncio.Task[T]":
        """Do something that goes on when the screen that asked for it has gone."""
        task = asyncio.create_task(deed)
        self._background.add(task)
        task.add_done_callback(self._background_ended)
        return task

    def _background_ended(self, task: "asyncio.Task[Any]") -> None:
        self._background.discard(task)
        # Whoever awaited it tells this as well, if that one is still there; it is shown once.
        if not task.cancelled() and isinstance(error := task.exception(), Exception):
            self.tell_trouble(error)

    # Leaving

    def _leave_at_once(self, code: int) -> None:
        """Leave without a question: somebody ended us, or the terminal is gone."""
        self._remember_place()
        self.exit(code, return_code=code)

    @guarded(group="quit", exclusive=True)
    async def action_quit(self) -> None:  # type: ignore[override]
        """Leave; ask first when jobs go on."""
        if self.live:
            await self._see_live_soon()
        if not self.live and not self.launches:
            self._leave()
            return
        from mft_tui.screens.quit import QuitScreen

        if any(isinstance(screen, QuitScreen) for screen in self.screen_stack):
            return
        names = [row.run.name or row.run.id for row in self.live.values()]
        names += [f"the launch of {run_id}" for run_id in self.launches]
        answer = await self.push_screen_wait(QuitScreen(names))
        if answer == "stop":
            for launcher in list(self.launches.values()):
                await self.lanes["launch"].call(launcher.give_up)
            await self.stop_runs(list(self.live))
        if answer is not None:
            self._leave()

    def _leave(self) -> None:
        self._remember_place()
        self.exit(0)

    def _remember_place(self) -> None:
        home = self.screen_stack[0]
        if isinstance(home, HomeScreen):
            home.remember_place()
            self.remember()

    async def _see_live_soon(self) -> None:
        """Look again, but not for long: whoever wants to leave is not kept waiting."""
        with contextlib.suppress(TimeoutError, StoreError):
            await asyncio.wait_for(self._see_live(), _LOOK_AT_MOST)

    async def stop_runs(self, run_ids: Iterable[str]) -> None:
        """Ask runs to stop."""
        from mft_tui.screens.actions import stop_run

        for run_id in run_ids:
            await stop_run(self, run_id)

    def remember(self) -> None:
        """Keep theme, columns and place for the next time."""
        try:
            save_preferences(self._preferences_path, self.preferences)
        except OSError as error:
            self.log.warning(f"preferences not kept: {error}")

    def _keep_theme(self, theme: object) -> None:
        name = self.theme
        if name != self.preferences.theme:
            self.preferences.theme = name
            self.remember()

    # Everywhere

    def get_key_display(self, binding: Binding) -> str:
        """A key as keyboards have it printed: F5, not f5."""
        shown = super().get_key_display(binding)
        return shown.upper() if _FUNCTION_KEY.fullmatch(shown) else shown

    def action_help(self) -> None:
        from mft_tui.screens.help import HelpScreen

        if not isinstance(self.screen, HelpScreen):
            self.push_screen(HelpScreen(self.screen))

    def action_next_theme(self) -> None:
        names = [theme.name for theme in THEMES]
        self.theme = names[(names.index(self.theme) + 1) % len(names)]

    def get_system_commands(self, screen: Screen[object]) -> Iterable[SystemCommand]:
        from mft_tui.screens.palette import commands_of

        yield SystemCommand("Keys of this screen", "What every key does here", self.action_help)
        yield from commands_of(self, screen)
        for theme in THEMES:
            yield SystemCommand(
                f"Theme: {theme.name}",
                "Colours of the app",
                lambda name=theme.name: setattr(self, "theme", name),
            )
        yield SystemCommand("Quit", "Leave the app; jobs go on unless asked", self.action_quit)

    def on_resize(self, event: events.Resize) -> None:
        small = event.size.width < LEAST_WIDTH or event.size.height < LEAST_HEIGHT
        shown = isinstance(self.screen, TooSmall)
        if small and not shown:
            self.push_screen(TooSmall())
        elif shown and not small:
            self.pop_screen()


def _still_kept(store: "Store", run_ids: Iterable[str]) -> Iterator["RunRecord"]:
    from db.errors import RunNotFoundError

    for run_id in run_ids:
        with contextlib.suppress(RunNotFoundError):
            yield store.get_run(run_id)


def main() -> int:
    """Run the app in this terminal; returns the exit status."""
    app = MftApp()
    app.run()
    sys.stdout.flush()
    return app.return_code or 0
