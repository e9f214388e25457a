"""A list to choose several of, with a box before each that says so without a colour.

Textual's own has the same sign before every line and tells the chosen ones by its colour alone,
which neither the sixteen colours of a terminal nor NO_COLOR leave one to see.
"""

from rich.segment import Segment
from textual.strip import Strip
from textual.widgets import SelectionList


class CheckList(SelectionList[str]):
    """``[x]`` what is chosen, ``[ ]`` what is not."""

    def render_line(self, y: int) -> Strip:
        line = super().render_line(y)
        index = self.scroll_offset.y + y
        if index >= self.option_count:
            return line
        words = line.crop(self._get_left_gutter_width())
        chosen = self.get_option_at_index(index).value in self.selected
        # The style of the words: it says which line was clicked, too.
        style = next((segment.style for segment in words), None)
        return Strip([Segment("[x] " if chosen else "[ ] ", style), *words])
