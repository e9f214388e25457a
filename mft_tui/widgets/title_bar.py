"""The first line of a screen: what it is at the left, how things stand at the right."""

from rich.text import Text
from textual.app import RenderResult
from textual.reactive import reactive
from textual.widget import Widget


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
        if isinstance(status, str):
            status = Text.from_markup(status)
        if title.cell_len + status.cell_len + 2 > room:
            title.truncate(max(8, room - status.cell_len - 2), overflow="ellipsis")
        gap = max(1, room - title.cell_len - status.cell_len)
        line = Text.assemble(title, " " * gap, status)
        line.truncate(room)
        return line
