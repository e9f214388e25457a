"""Curves as braille dots, two across and four down in a cell; pure, no widget.

Our own because a chart is drawn where keys are answered: eight curves of 1,200 points on 150 by 40
cells take plotext 80 to 200 ms, and this some 10. Each column of dots shows the whole range that a
curve has in it, so that no peak is lost however many points fall into one column.
"""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from types import MappingProxyType

_LEFT, _RIGHT = (0x01, 0x02, 0x04, 0x40), (0x08, 0x10, 0x20, 0x80)
_PARTS = tuple(
    tuple(
        tuple(sum(bits[top : bottom + 1]) if top <= bottom else 0 for bottom in range(4))
        for top in range(4)
    )
    for bits in (_LEFT, _RIGHT)
)
"""The dots of a half cell from one row of dots to another: by half, first row, last row."""

DASHES = ("", "#### ", "## ", "#### # ")
"""Which columns of dots of a line are drawn, over and over; the first is a whole line."""

NOBODY = -1

_NONE: Mapping[int, str] = MappingProxyType({})


@dataclass(frozen=True)
class Axis:
    """What lies at both ends of a side of the canvas. ``log``: its decades are equally long."""

    low: float
    high: float
    log: bool = False

    def places(self, values: Sequence[float], dots: int) -> list[float]:
        """Where values lie, in dots from the low end; on a log axis all must be above 0."""
        low, high = self.low, self.high
        if self.log:
            low, high, values = math.log10(low), math.log10(high), [*map(math.log10, values)]
        if not high > low:
            return [(dots - 1) / 2] * len(values)
        factor = (dots - 1) / (high - low)
        return [(value - low) * factor for value in values]


@dataclass
class Canvas:
    """Cells of ``columns`` by ``rows``. What is drawn last has the colour of a shared cell."""

    columns: int
    rows: int
    across: Axis
    up: Axis
    _masks: list[int] = field(init=False)
    _owners: list[int] = field(init=False)
    _marks: dict[int, str] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        self._masks = [0] * (self.columns * self.rows)
        self._owners = [NOBODY] * (self.columns * self.rows)

    def line(
        self, steps: Sequence[float], values: Sequence[float], owner: int, dash: str = ""
    ) -> None:
        """Draw straight from point to point; ``steps`` increase and may lie outside the axis."""
        lows, highs = self._ranges(steps, values)
        for column, low in enumerate(lows):
            if highs[column] >= low and not (dash and dash[column % len(dash)] == " "):
                self._fill(column, round(low), round(highs[column]), owner)

    def mark(self, steps: Sequence[float], values: Sequence[float], owner: int, sign: str) -> None:
        """Write a sign onto a line now and then, for where colours do not tell lines apart."""
        lows, highs = self._ranges(steps, values)
        for column in range(4 + 3 * owner, self.columns, 24):
            low, high = lows[2 * column], highs[2 * column]
            if high >= low:
                cell = round((low + high) / 2) // 4 * self.columns + column
                self._marks[cell], self._owners[cell] = sign, owner

    def column_of(self, step: float) -> int:
        """The column of cells that a step lies in."""
        return int(self.across.places([step], 2 * self.columns)[0] + 0.5) // 2

    def row_of(self, value: float) -> int:
        """The row of cells, from the top, that a value lies in."""
        dots = 4 * self.rows
        return int(dots - 1 - self.up.places([value], dots)[0] + 0.5) // 4

    def runs(self, row: int, uprights: Mapping[int, str] = _NONE) -> Iterator[tuple[str, int]]:
        """A row's text in pieces of one owner; ``uprights`` stand behind it, by their column."""
        start = row * self.columns
        text, owner = "", NOBODY
        for column in range(self.columns):
            cell = start + column
            mask, mine = self._masks[cell], self._owners[cell]
            sign = self._marks.get(cell) or (chr(0x2800 + mask) if mask else " ")
            if sign == " ":
                mine = NOBODY
                sign = uprights.get(column, " ")
            if mine != owner and text:
                yield text, owner
                text = ""
            text, owner = text + sign, mine
        yield text, owner

    def _ranges(
        self, steps: Sequence[float], values: Sequence[float]
    ) -> tuple[list[float], list[float]]:
        """The highest and lowest dot of a line in each column, counted from the top."""
        width, height = 2 * self.columns, 4 * self.rows
        lows, highs = [float(height)] * width, [-1.0] * width
        if not steps:
            return lows, highs
        bottom = height - 1
        places = self.across.places(steps, width)
        dots = [bottom - place for place in self.up.places(values, height)]
        before, last = places[0], dots[0]
        here = round(before)
        if 0 <= here < width:
            lows[here] = highs[here] = last
        for place, dot in zip(places, dots, strict=True):
            column = round(place)
            if column == here:
                if 0 <= here < width:
                    if dot < lows[here]:
                        lows[here] = dot
                    if dot > highs[here]:
                        highs[here] = dot
            elif column >= 0 and here < width:
                slope = (dot - last) / (place - before)
                first = max(here, 0)
                edge = last if here >= 0 else last + slope * (-0.5 - before)
                for passed in range(first, min(column, width - 1) + 1):
                    beyond = last + slope * (passed + 0.5 - before)
                    following = dot if passed == column else beyond
                    low, high = (edge, following) if edge < following else (following, edge)
                    if low < lows[passed]:
                        lows[passed] = low
                    if high > highs[passed]:
                        highs[passed] = high
                    edge = following
            before, last, here = place, dot, column
        return lows, highs

    def _fill(self, column: int, top: int, bottom: int, owner: int) -> None:
        """Set the dots of a column from one row of dots to another."""
        parts = _PARTS[column & 1]
        first, last = top >> 2, bottom >> 2
        cell = first * self.columns + (column >> 1)
        for row in range(first, last + 1):
            self._masks[cell] |= parts[top & 3 if row == first else 0][
                bottom & 3 if row == last else 3
            ]
            self._owners[cell] = owner
            cell += self.columns
