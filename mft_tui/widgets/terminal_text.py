"""What one line of a log looks like on a terminal: carriage returns, colours, erasures.

A job writes progress bars by going back to the start of the line and writing over it; a log file
keeps every stroke. This module plays the strokes of one line and gives what would be left on the
screen, as runs of text with one style each. It knows one line only: a cursor that moves up (several
bars at once) stays where it is. Separate from the pane because it is pure and is tested as such.
"""

import re
from dataclasses import dataclass

from rich.color import Color
from rich.style import Style

Run = tuple[str, Style | None]

# A bar of an hour's job has tens of thousands of strokes; what is seen is decided by the last few.
_STROKES_KEPT = 16

_PLAIN = re.compile(r"[^\x00-\x08\x0a-\x1f\x7f]*\Z")
_SEQUENCE = re.compile(
    r"\x1b\[(?P<args>[0-9;:?]*)(?P<final>[@-~])"  # CSI
    r"|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)?"  # OSC: titles, links
    r"|\x1b[()][0-9A-B]|\x1b."  # character sets and the rest
    r"|(?P<control>[\x00-\x1f\x7f])"
)
_TAB = 8


@dataclass
class _Pen:
    """The style that the next characters get."""

    style: Style | None = None

    def apply(self, arguments: str) -> None:
        codes = [int(part) if part.isdigit() else 0 for part in re.split("[;:]", arguments or "0")]
        position = 0
        while position < len(codes):
            code = codes[position]
            if code in (38, 48):
                colour, used = _extended_colour(codes[position + 1 :])
                position += used
                if colour is not None:
                    self._add(Style(color=colour) if code == 38 else Style(bgcolor=colour))
            elif code == 0:
                self.style = None
            elif style := _SGR.get(code):
                self._add(style)
            position += 1

    def _add(self, style: Style) -> None:
        self.style = style if self.style is None else self.style + style


def _extended_colour(codes: list[int]) -> tuple[Color | None, int]:
    if len(codes) >= 2 and codes[0] == 5:
        return Color.from_ansi(codes[1] & 255), 2
    if len(codes) >= 4 and codes[0] == 2:
        return Color.from_rgb(*(code & 255 for code in codes[1:4])), 4
    return None, len(codes)


_SGR: dict[int, Style] = {
    1: Style(bold=True),
    2: Style(dim=True),
    3: Style(italic=True),
    4: Style(underline=True),
    7: Style(reverse=True),
    9: Style(strike=True),
    22: Style(bold=False, dim=False),
    23: Style(italic=False),
    24: Style(underline=False),
    27: Style(reverse=False),
    29: Style(strike=False),
    39: Style(color="default"),
    49: Style(bgcolor="default"),
    **{30 + n: Style(color=Color.from_ansi(n)) for n in range(8)},
    **{40 + n: Style(bgcolor=Color.from_ansi(n)) for n in range(8)},
    **{90 + n: Style(color=Color.from_ansi(8 + n)) for n in range(8)},
    **{100 + n: Style(bgcolor=Color.from_ansi(8 + n)) for n in range(8)},
}


def render_line(raw: bytes) -> tuple[Run, ...]:
    """Play the strokes of one line (without its newline) and return what stays on the screen.

    Bytes that are not UTF-8 become U+FFFD; control characters that move nothing are dropped.
    """
    text = raw.decode("utf-8", "replace").rstrip("\r")
    if _PLAIN.match(text):
        return ((text.expandtabs(_TAB), None),) if text else ()
    strokes = text.rsplit("\r", _STROKES_KEPT)
    pen = _Pen()
    cells: list[tuple[str, Style | None]] = []
    for stroke in strokes[1:] if len(strokes) > _STROKES_KEPT else strokes:
        cells = _write_over(cells, stroke, pen)
    return _runs(cells)


def plain_text(raw: bytes) -> str:
    """The same without styles: what copying gives."""
    return "".join(text for text, _ in render_line(raw))


def _write_over(
    cells: list[tuple[str, Style | None]], stroke: str, pen: _Pen
) -> list[tuple[str, Style | None]]:
    column, position = 0, 0
    for match in _SEQUENCE.finditer(stroke):
        column = _put(cells, column, stroke[position : match.start()], pen)
        position = match.end()
        column = _obey(cells, column, match, pen)
    _put(cells, column, stroke[position:], pen)
    return cells


def _put(cells: list[tuple[str, Style | None]], column: int, text: str, pen: _Pen) -> int:
    if column > len(cells):
        cells.extend((" ", None) for _ in range(column - len(cells)))
    cells[column : column + len(text)] = [(character, pen.style) for character in text]
    return column + len(text)


def _obey(
    cells: list[tuple[str, Style | None]], column: int, match: "re.Match[str]", pen: _Pen
) -> int:
    final, arguments = match["final"], match["args"] or ""
    count = int(arguments) if arguments.isdigit() else 1
    if match["control"] == "\b":
        return max(0, column - 1)
    if match["control"] == "\t":
        return _put(cells, column, " " * (_TAB - column % _TAB), pen)
    if final == "m":
        pen.apply(arguments)
    elif final == "K":
        if arguments in ("", "0"):
            del cells[column:]
        elif arguments == "2":
            cells.clear()
    elif final == "C":
        return column + min(count, 500)
    elif final == "D":
        return max(0, column - count)
    elif final == "G":
        return max(0, min(count, 500) - 1)
    return column


def _runs(cells: list[tuple[str, Style | None]]) -> tuple[Run, ...]:
    runs: list[Run] = []
    start = 0
    for end in range(1, len(cells) + 1):
        if end == len(cells) or cells[end][1] != cells[start][1]:
            runs.append(("".join(character for character, _ in cells[start:end]), cells[start][1]))
            start = end
    return tuple(runs)
