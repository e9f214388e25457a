"""A record as the model sees it, the trained parts coloured."""

from typing import TYPE_CHECKING

from rich.text import Text
from textual.app import RenderResult
from textual.widget import Widget

if TYPE_CHECKING:
    from runners.data.preview import Preview


class MaskPreview(Widget):
    """The text of a record; what has a loss stands in colour, the rest is dim."""

    DEFAULT_CSS = """
    MaskPreview { height: auto; padding: 0 1; }
    """

    def __init__(self) -> None:
        super().__init__()
        self._preview: Preview | None = None

    def show(self, preview: "Preview | None") -> None:
        """Show this record, or none."""
        self._preview = preview
        self.refresh(layout=True)

    def render(self) -> RenderResult:
        text = Text()
        if self._preview is None:
            return text
        colour = self.app.theme_variables.get("success", "green").removeprefix("ansi_")
        for piece in self._preview.pieces:
            text.append(piece.text, f"{colour} bold" if piece.trained else "dim")
        return text
