"""Names and values in as many columns as there is room for."""

from collections.abc import Sequence

from rich.text import Text
from textual.app import RenderResult
from textual.geometry import Size
from textual.widget import Widget

Fact = tuple[str, str]
_NAME, _VALUE = 15, 11


class Facts(Widget):
    """A quiet table of what is known."""

    DEFAULT_CSS = """
    Facts { height: auto; padding: 0 1; }
    """

    def __init__(self, *, id: str | None = None) -> None:  # noqa: A002
        super().__init__(id=id)
        self._facts: tuple[Fact, ...] = ()

    def show(self, facts: Sequence[Fact]) -> None:
        """Show these; those without a value are left out."""
        fresh = tuple(fact for fact in facts if fact[1])
        if fresh != self._facts:
            relayout = len(fresh) != len(self._facts)
            self._facts = fresh
            self.refresh(layout=relayout)

    def _columns(self, width: int) -> int:
        return max(1, width // (_NAME + _VALUE))

    def get_content_height(self, container: Size, viewport: Size, width: int) -> int:
        return max(1, -(-len(self._facts) // self._columns(width)))

    def render(self) -> RenderResult:
        columns = self._columns(self.content_size.width)
        room = self.content_size.width // columns - _NAME - 1
        lines = []
        for start in range(0, len(self._facts), columns):
            line = Text(no_wrap=True)
            for name, value in self._facts[start : start + columns]:
                line.append(f"{name[: _NAME - 1]:<{_NAME}}", "dim")
                line.append(f"{value[:room]:<{room + 1}}")
            lines.append(line)
        return Text("\n").join(lines)
