"""The last page before a launch: what will run, whether it fits, what to know."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar, cast

from rich.text import Text
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from mft_tui.widgets.command_line import CommandLine
from mft_tui.widgets.guard import guarded
from mft_tui.widgets.key_line import KeyLine
from mft_tui.widgets.title_bar import TitleBar
from runners.errors import MftError

if TYPE_CHECKING:
    from mft_tui.app import MftApp
    from runners.config import JobConfig
    from runners.hardware.estimate import Estimate


@dataclass(frozen=True)
class Review:
    """What a launch would be: ``problem`` says why it cannot be."""

    config: "JobConfig | None"
    origins: Mapping[str, str]
    differences: tuple[tuple[str, str, str], ...] = ()
    launch_line: str = ""
    warnings: tuple[str, ...] = ()
    estimate: "Estimate | None" = None
    problem: str = ""


def review(kind: str, values: Mapping[str, Any]) -> Review:
    """Resolve a draft's values and gather everything worth reading before the launch."""
    from mft_tui.widgets.config_fields import settings_of, shown
    from runners.config.resolve import resolve

    try:
        resolved = resolve(kind, flags=values)
    except MftError as error:
        return Review(None, {}, problem=str(error))
    plain = resolved.config.model_dump(mode="json")
    differences = tuple(
        (s.key, shown(plain[s.key]), str(resolved.origins[s.key]))
        for s in settings_of(kind)
        if s.required or plain[s.key] != s.default
    )
    warnings = list(resolved.notices)
    line, answer = "", None
    if kind == "train":
        line, answer, more = _training(resolved.config, dict(values))
        warnings += more
    origins = {key: str(origin) for key, origin in resolved.origins.items()}
    return Review(resolved.config, origins, differences, line, tuple(warnings), answer)


def _training(config: Any, values: dict[str, Any]) -> "tuple[str, Estimate | None, list[str]]":
    from mft_tui.screens.wizard.plan import estimate_draft
    from runners.config.launch_line import accelerate_argv, shown
    from runners.hardware.probe import detect

    hardware = detect()
    argv, environment = accelerate_argv(config, Path("RUN_FOLDER"), hardware)
    answer = estimate_draft(values, hardware)
    warnings = []
    if isinstance(answer, str):
        warnings.append(f"No estimate: {answer}")
        return shown(argv, environment), None, warnings
    if answer.verdict in ("tight", "does not fit"):
        warnings.append(f"Memory: {answer.reason}")
    if not hardware.usable and not config.use_cpu:
        warnings.append("There is no usable GPU: this runs on the CPU.")
    return shown(argv, environment), answer, warnings


class ReviewScreen(Screen[bool]):
    """Launch line, estimate, warnings, and what differs from the defaults."""

    DEFAULT_CSS = """
    ReviewScreen VerticalScroll { padding: 0 1; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("enter", "launch", "Launch", id="review.launch"),
        Binding("escape,q", "back", "Back", id="review.back"),
        Binding("y", "copy", "Copy command", id="review.copy"),
    ]

    def __init__(self, kind: str, name: str, values: Mapping[str, Any], argv: list[str]) -> None:
        super().__init__()
        self._kind, self._name, self._values, self._argv = kind, name, dict(values), argv
        self.review: Review | None = None

    def compose(self) -> ComposeResult:
        yield TitleBar(f"review  {self._kind} {self._name}")
        with VerticalScroll():
            yield Static("reading …", id="words")
        yield CommandLine()
        yield KeyLine()

    def on_mount(self) -> None:
        self.query_one(CommandLine).argv = tuple(self._argv)
        self.query_one(VerticalScroll).focus()
        self._read()

    @guarded(group="review", exclusive=True)
    async def _read(self) -> None:
        app = cast("MftApp", self.app)
        self.review = await app.lanes["data"].call(review, self._kind, self._values)
        self.query_one("#words", Static).update(self._words(self.review))
        title = self.query_one(TitleBar)
        title.status = "cannot be launched" if self.review.problem else "enter to launch"
        self.refresh_bindings()

    def _words(self, found: Review) -> Text:
        from mft_tui.screens.wizard.plan import estimate_words

        text = Text()
        if found.problem:
            text.append("\nThis cannot be launched yet\n\n", "bold")
            for line in found.problem.replace("; ", "\n").splitlines():
                text.append(f"  {line.strip()}\n")
            return text
        if found.warnings:
            text.append("\nto know\n", "dim")
            for warning in found.warnings:
                text.append(f"  ! {warning}\n")
        if found.estimate is not None:
            text.append("\nmemory of one rank\n", "dim")
            text.append(estimate_words(found.estimate, self.app.theme_variables))
            text.append("\n")
        text.append("\nwhat differs from the defaults\n", "dim")
        for key, value, origin in found.differences:
            text.append(f"  {key:<28}")
            text.append(value, "bold")
            text.append(f"  {origin}\n" if origin not in ("flag", "default") else "\n", "dim")
        if found.launch_line:
            text.append("\nlaunch line\n", "dim")
            text.append(f"  {found.launch_line}\n")
        return text

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        if action == "launch":
            return self.review is not None and not self.review.problem
        return True

    def action_launch(self) -> None:
        self.dismiss(True)

    def action_back(self) -> None:
        self.dismiss(False)

    def action_copy(self) -> None:
        self.query_one(CommandLine).action_copy()
