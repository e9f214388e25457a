"""A line of a log as the pane draws it: its own colours, what matches marked, cut to a width.

Pure, apart from the pane: it knows one line and no file, no scrolling, no cursor.
"""

import re

from rich.segment import Segment
from rich.style import Style
from textual.strip import Strip

from mft_tui.widgets.terminal_text import render_line


def line_strips(
    raw: bytes, width: int, pattern: "re.Pattern[bytes] | None", match: Style
) -> list[Strip]:
    """The line in pieces of ``width`` cells, whole for 0; the first hit of ``pattern`` is marked.

    ``match`` is laid over the colours that the hit has.
    """
    runs = _marked(list(render_line(raw)), pattern, match)
    strip = Strip([Segment(text, style) for text, style in runs])
    if not width or strip.cell_length <= width:
        return [strip]
    return list(strip.divide([*range(width, strip.cell_length, width), strip.cell_length]))


def _marked(
    runs: list[tuple[str, Style | None]], pattern: "re.Pattern[bytes] | None", match: Style
) -> list[tuple[str, Style | None]]:
    if pattern is None:
        return runs
    text = "".join(part for part, _ in runs).encode()
    if not (hit := pattern.search(text)):
        return runs
    before, inside = len(text[: hit.start()].decode()), len(hit[0].decode("utf-8", "replace"))
    plain = [(character, style) for part, style in runs for character in part]
    return [
        (character, (style or Style()) + match if before <= n < before + inside else style)
        for n, (character, style) in enumerate(plain)
    ]
