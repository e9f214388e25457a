"""The wizard: a rail of steps, a page each, one draft."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, ClassVar, cast

from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Container, Horizontal
from textual.screen import Screen

from mft_tui.screens.wizard.data_step import DataStep
from mft_tui.screens.wizard.draft import STEPS, Draft, Drafts
from mft_tui.screens.wizard.hardware_step import HardwareStep
from mft_tui.screens.wizard.job_step import (
    EvaluateStep,
    ExportStep,
    GenerateStep,
    TrainStep,
    run_or_none,
)
from mft_tui.screens.wizard.model_step import ModelStep
from mft_tui.screens.wizard.rail import Rail
from mft_tui.screens.wizard.settings_step import SettingsStep, settings_state
from mft_tui.screens.wizard.step import StepPane
from mft_tui.widgets.command_line import CommandLine
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.key_line import KeyLine
from mft_tui.widgets.title_bar import TitleBar

if TYPE_CHECKING:
    from db import Store
    from mft_tui.app import MftApp

_PAGES: dict[str, type[StepPane]] = {
    page.step: page
    for page in (
        DataStep, ModelStep, HardwareStep, SettingsStep,
        TrainStep, GenerateStep, EvaluateStep, ExportStep,
    )
}  # fmt: skip


class WizardScreen(Screen[None]):
    """From data to a submission, a page a step; what you decide is kept as a draft."""

    CSS_PATH = "wizard.tcss"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "leave", "Back", id="wizard.back"),
        Binding("f2", "go(-1)", "Previous", show=False, id="wizard.previous"),
        Binding("f3", "go(1)", "Next", id="wizard.next"),
        Binding("f4", "watch", "Watch", show=False, id="wizard.watch"),
        Binding("f5", "review", "Launch", id="wizard.review"),
        Binding("f7", "drafts", "Drafts", show=False, id="wizard.drafts"),
        Binding("f8", "copy", "Copy command", show=False, id="wizard.copy"),
    ]

    def __init__(self, name: str | None = None) -> None:
        super().__init__()
        self._wanted = name
        self.draft = Draft("draft")

    @property
    def mft(self) -> "MftApp":
        """The app, as ours."""
        return cast("MftApp", self.app)

    def compose(self) -> ComposeResult:
        yield TitleBar("new run")
        with Horizontal(id="main"):
            yield Rail()
            yield Container(id="pages")
        yield CommandLine()
        yield KeyLine()

    def on_mount(self) -> None:
        self.drafts = Drafts(self.mft.state.root / "drafts")
        self._open(self._wanted)

    # The draft

    @guarded(group="draft", exclusive=True)
    async def _open(self, name: str | None, *, fresh: bool = False) -> None:
        lane = self.mft.lanes["files"]
        wanted = name or self.mft.preferences.draft
        found = await lane.call(self.drafts.load, wanted) if wanted and not fresh else None
        self.draft = found or Draft(await lane.call(self.drafts.fresh_name))
        self.mft.preferences.draft = self.draft.name
        self.mft.remember()
        await self.query_one("#pages").remove_children()
        self._show_states()
        self._turn_to(self.draft.step, enter=True)
        if self.draft.launching:
            self._find_launched(self.draft)

    @guarded(group="launched", exclusive=True)
    async def _find_launched(self, draft: Draft) -> None:
        """Link the runs that came of launches which the app did not see to their end."""
        wanted = dict(draft.launching)

        def find(store: "Store") -> dict[str, str]:
            return {kind: one for kind, one in wanted.items() if run_or_none(store, one)}

        for kind, run_id in (await self.mft.tracker.ask(find)).items():
            draft.link(kind, run_id)
        if draft is self.draft and draft.launching != wanted:
            self.linked()

    @on(StepPane.Changed)
    def _changed(self, event: StepPane.Changed) -> None:
        event.stop()
        if "settings" in self.draft.found:  # another page may have given what was missing
            self.draft.found["settings"] = settings_state(self.draft)
        self._show_states()
        self._show_command()
        self._save()

    @guarded(group="save", exclusive=True)
    async def _save(self) -> None:
        # Encoded here, where the pages change it; written in the lane. A write that is asked for
        # is done even when the wizard is left before its turn: leaving cancels this worker.
        files = self.drafts.encoded(self.draft)
        try:
            await asyncio.shield(self.mft.lanes["files"].call(self.drafts.write, files))
        except OSError as error:
            self.notify(f"The draft is not kept: {error.strerror}", severity="warning")

    def _show_states(self) -> None:
        states = {step: said.split(":", 1)[0] for step, said in self.draft.found.items()}
        self.query_one(Rail).show(states)
        title = self.query_one(TitleBar)
        title.title = f"new run  {self.draft.name}"
        said = self.draft.found.get(self.draft.step, "")
        title.status = Text(said.split(": ", 1)[-1])

    # Pages

    @property
    def page(self) -> StepPane | None:
        """The page in front."""
        found = self.query(f"#step-{self.draft.step}")
        return cast("StepPane", found.first()) if found else None

    @on(Rail.Chosen)
    def _chosen(self, event: Rail.Chosen) -> None:
        self._turn_to(event.step, enter=event.enter)

    def action_go(self, step: int) -> None:
        place = STEPS.index(self.draft.step) + step
        if 0 <= place < len(STEPS):
            self._turn_to(STEPS[place], enter=True)

    @guarded(group="turn", exclusive=True)
    async def _turn_to(self, step: str, *, enter: bool) -> None:
        """Bring a page to the front; it is made when it is first wanted."""
        if self.page is not None and step != self.draft.step:
            self.page.leave()
        self.draft.step = step
        self.query_one(Rail).step = step
        self._show_states()
        if self.page is None:
            await self.query_one("#pages").mount(_PAGES[step](self.draft))
        for page in self.query(StepPane):
            page.display = page.step == step
        self._show_command()
        self._save()
        if (front := self.page) is not None:
            front.enter()
            if enter:
                self.call_after_refresh(front.focus_first)

    def _show_command(self) -> None:
        if (page := self.page) is not None:
            config = self.drafts.config_file(self.draft, page.kind)
            self.query_one(CommandLine).argv = tuple(page.command(_short(config)))

    # Acting

    @guarded(group="launch", exclusive=True)
    async def action_review(self) -> None:
        """Review what this page's job would do, and launch it."""
        from mft_tui.screens.actions import launch_config
        from mft_tui.screens.monitor import MonitorScreen
        from mft_tui.screens.wizard.review import ReviewScreen

        page = self.page
        if page is None:
            return
        page.leave()
        kind = page.kind
        config = _short(self.drafts.config_file(self.draft, kind))
        argv = ["mft-tui", kind, config] if kind == "train" else page.command(config)
        screen = ReviewScreen(kind, self.draft.name, self.draft.of(kind), argv)
        if not await self.app.push_screen_wait(screen) or screen.review is None:
            return
        if (ready := screen.review.config) is None:
            return
        self.notify("Launching: inputs are hashed first", timeout=3)
        draft, drafts, mft = self.draft, self.drafts, self.mft
        before = {"generate": "train", "evaluate": "generate", "export": "generate"}.get(kind, "")
        run_id = await launch_config(
            mft,
            ready,
            name=draft.name,
            parent=draft.runs.get(before),
            origins=screen.review.origins,
            begun=lambda run_id: self._launching(draft, kind, run_id),
            then=lambda run_id: _link(mft, drafts, draft.name, kind, run_id),
        )
        if run_id is not None:
            await self.app.push_screen(MonitorScreen([run_id]))

    def _launching(self, draft: Draft, kind: str, run_id: str) -> None:
        draft.launching[kind] = run_id
        if draft is self.draft and self.is_attached:
            self._save()

    def linked(self) -> None:
        """Show and keep that a job of this draft has become a run."""
        self._show_states()
        self._save()

    def on_screen_resume(self) -> None:
        if (page := self.page) is not None:
            page.enter()

    def action_watch(self) -> None:
        """Watch the run that this page launched."""
        from mft_tui.screens.monitor import MonitorScreen

        page = self.page
        if page is not None and (run_id := self.draft.runs.get(page.kind)):
            self.app.push_screen(MonitorScreen([run_id]))

    @guarded(group="ask", exclusive=True)
    async def action_drafts(self) -> None:
        """Another draft, or a new one."""
        from mft_tui.screens.choose import Choose

        names = await self.mft.lanes["files"].call(self.drafts.names)
        new = "a new draft"
        chosen = await self.app.push_screen_wait(Choose("Drafts", [new, *names]))
        if chosen == new:
            self._open(None, fresh=True)
        elif chosen is not None:
            self._open(chosen)

    def action_copy(self) -> None:
        self.query_one(CommandLine).action_copy()

    def action_leave(self) -> None:
        """Back home; the draft is kept."""
        if self.page is not None:
            self.page.leave()
        self.dismiss()


async def _link(app: "MftApp", drafts: Drafts, name: str, kind: str, run_id: str) -> None:
    """Tell a draft its run, be it in front, at the back, or closed since the launch began.

    Told to the file too, and to the wizards before and after that: one may have been opened, or
    left, while the file was written, and would else write over it what it knew.
    """

    def wizards() -> list[WizardScreen]:
        opened = [screen for screen in app.screen_stack if isinstance(screen, WizardScreen)]
        return [wizard for wizard in opened if wizard.draft.name == name]

    for wizard in wizards():
        wizard.draft.link(kind, run_id)
    try:
        await app.lanes["files"].call(drafts.link, name, kind, run_id)
    except OSError as error:
        app.notify(f"The draft is not kept: {error.strerror}", severity="warning")
    for wizard in wizards():
        wizard.draft.link(kind, run_id)
        wizard.linked()


def _short(path: Path) -> str:
    home = Path.home()
    return f"~/{path.relative_to(home)}" if path.is_relative_to(home) else str(path)
