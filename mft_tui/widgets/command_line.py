"""The command that does the same as the screen, ready to be copied."""

import shlex
from collections.abc import Sequence

from rich.text import Text
from textual.app import RenderResult
from textual.reactive import reactive
from textual.widget import Widget


def shell_line(argv: Sequence[str]) -> str:
    """The arguments as a line that a shell reads back as the same arguments."""
    return shlex.join(argv)


class CommandLine(Widget):
    """One line, ``$ mft-tui …``; the screen's copy key takes it whole."""

    DEFAULT_CSS = """
    CommandLine { height: 1; padding: 0 1; color: $text-muted; background: $surface; }
    """
    argv: reactive[tuple[str, ...]] = reactive(())

    def render(self) -> RenderResult:
        line = Text("$ ", "dim")
        line.append(shell_line(self.argv))
        line.truncate(self.content_size.width, overflow="ellipsis")
        return line

    def action_copy(self) -> None:
        """Put the whole line on the clipboard."""
        self.app.copy_to_clipboard(shell_line(self.argv))
        self.notify("Command copied", timeout=2)
