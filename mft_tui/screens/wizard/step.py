"""What every page of the wizard is: it shows a part of the draft, and knows its command."""

from typing import TYPE_CHECKING, ClassVar

from textual.containers import Vertical
from textual.message import Message

from mft_tui.screens.wizard.draft import KIND_OF_STEP, Draft
from mft_tui.widgets.config_fields import Inherited, inherited
from runners.errors import MftError

if TYPE_CHECKING:
    from mft_tui.app import MftApp

_WIDE = 100
"""From this many columns on, what belongs side by side stands side by side."""


class StepPane(Vertical):
    """A page. ``step`` names it; ``enter`` is called each time it comes to the front.

    A container of the class ``columns`` lays its parts side by side where there is room.
    """

    DEFAULT_CSS = """
    StepPane { height: 1fr; }
    StepPane .head { color: $text-muted; padding: 0 1; margin-top: 1; }
    StepPane .first { margin-top: 0; }
    StepPane .said { padding: 0 1; height: auto; }
    StepPane .columns { layout: vertical; }
    StepPane.-wide .columns { layout: horizontal; }
    StepPane .columns > Vertical { width: 1fr; height: auto; }
    StepPane OptionList { border: none; padding: 0; background: $background; }
    """
    step: ClassVar[str] = ""

    class Changed(Message):
        """The draft has changed, or what is known of it."""

    def __init__(self, draft: Draft) -> None:
        super().__init__(id=f"step-{self.step}")
        self.draft = draft

    def on_resize(self) -> None:
        self.set_class(self.size.width >= _WIDE, "-wide")

    @property
    def mft(self) -> "MftApp":
        """The app, as ours."""
        return self.app  # type: ignore[return-value]

    @property
    def kind(self) -> str:
        """The kind of job this page decides about."""
        return KIND_OF_STEP[self.step]

    def inherited(self) -> "dict[str, Inherited]":
        """What the environment and the person's defaults decide where the draft does not."""
        try:
            return inherited(self.kind)
        except MftError as error:
            self.notify(str(error), title="Your defaults", severity="error", timeout=10)
            return {}

    def command(self, config: str) -> list[str]:
        """The command that does what this page does; ``config`` is the draft's config file."""
        raise NotImplementedError

    def enter(self) -> None:
        """The page is in front now: renew what depends on other pages."""

    def leave(self) -> None:
        """The page is left: what was typed and not yet entered is taken now."""

    def focus_first(self) -> None:
        """Give the focus to where one begins."""
        for widget in self.query("*"):
            if widget.focusable and widget.is_on_screen:
                widget.focus()
                return

    def tell(self, found: str) -> None:
        """Say how this step stands: words after ``ok:``, ``problem:`` or ``todo:``, or nothing."""
        if found:
            self.draft.found[self.step] = found
        else:
            self.draft.found.pop(self.step, None)
        self.post_message(self.Changed())
