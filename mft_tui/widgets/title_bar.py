"""The first line of a screen: what it is at the left, how things stand at the right."""

from rich.text import Text
from textual.app import RenderResult
from textual.reactive import reactive
from textual.widget import Widget

_LEAST_TITLE = 24


class TitleBar(Widget):
    """One line."""

    DEFAULT_CSS = """
    TitleBar { height: 1; dock: top; padding: 0 1; background: $panel; color: $foreground; }
    """

    title: reactive[str] = reactive("")
    status: reactive[str | Text] = reactive("")
    """Markup, or a text where somebody else's words are in it."""

    def __init__(self, title: str = "") -> None:
        super().__init__()
        self.set_reactive(TitleBar.title, title)

    def render(self) -> RenderResult:
        room = self.content_size.width
        title, status = Text(self.title, "bold"), self.status
        status = Text.from_markup(status) if isinstance(status, str) else status.copy()
        if title.cell_len + status.cell_len + 2 > room:
            # Neither takes all of the other's room: what a screen is about must be told.
            kept = min(title.cell_len, max(_LEAST_TITLE, room - status.cell_len - 2))
            title.truncate(kept, overflow="ellipsis")
            status.truncate(max(0, room - kept - 2), overflow="ellipsis")
        gap = max(1, room - title.cell_len - status.cell_len)
        line = Text.assemble(title, " " * gap, status)
        line.truncate(room)
        return line
