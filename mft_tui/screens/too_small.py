"""What is shown when the terminal has no room for the app."""

from textual import events
from textual.app import ComposeResult
from textual.screen import ModalScreen
from textual.widgets import Static

LEAST_WIDTH, LEAST_HEIGHT = 60, 20


class TooSmall(ModalScreen[None]):
    """Goes away by itself when there is room again."""

    DEFAULT_CSS = """
    TooSmall { align: center middle; background: $background; }
    TooSmall > Static { width: auto; max-width: 100%; text-align: center; }
    """

    def compose(self) -> ComposeResult:
        yield Static()

    def on_resize(self, event: events.Resize) -> None:
        size = event.size
        self.query_one(Static).update(
            f"mft-tui needs {LEAST_WIDTH}x{LEAST_HEIGHT}\nthis is {size.width}x{size.height}\n"
            "running jobs are not affected"
        )
