"""Curves for charts, read from the store: thinned in SQL, and finer where one looks closer.

Apart from the screens because the monitor and the comparison read them the same way.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from mft_tui.widgets.curves import Curve, Window

if TYPE_CHECKING:
    from db import Store

_POINTS = 1200
"""Points a curve at most: more than a wide terminal has dots in a row."""

_MARGIN = 0.05
"""Share of the window that is read beyond each end, so that lines reach its edges."""


@dataclass(frozen=True)
class Line:
    """A metric of a run, and what its curve is called."""

    run_id: str
    key: str
    name: str


def read_curves(store: "Store", lines: Sequence[Line], window: Window | None) -> list[Curve]:
    """A curve a line: over all steps, or in full over the steps of ``window``."""
    first = last = None
    if window is not None:
        beyond = (window.high - window.low) * _MARGIN + 1
        first, last = math.floor(window.low - beyond), math.ceil(window.high + beyond)
    curves = []
    for line in lines:
        points = store.series(line.run_id, line.key, _POINTS, first=first, last=last).points
        curves.append(Curve(line.name, [p.step for p in points], [p.value for p in points]))
    return curves
