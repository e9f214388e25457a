"""What a chart does to its numbers before it draws them; pure, in the order it is done.

A curve is steps and values. NaN and infinite values are left out of the line and counted, because a
chart cannot place them and a person must know of them.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Curve:
    """One line: a name, steps in increasing order, a value for each."""

    name: str
    steps: Sequence[float]
    values: Sequence[float]

    def finite(self) -> "Curve":
        """Without the points that cannot be placed."""
        kept = [(s, v) for s, v in zip(self.steps, self.values, strict=True) if math.isfinite(v)]
        return Curve(self.name, [s for s, _ in kept], [v for _, v in kept])

    @property
    def odd(self) -> int:
        """Points that are NaN or infinite."""
        return sum(not math.isfinite(value) for value in self.values)


def smoothed(values: Sequence[float], weight: float) -> list[float]:
    """Exponential moving average with the start's bias taken out.

    ``weight`` in [0, 1) is what is kept of the past; 0 gives the values back.
    """
    if weight <= 0:
        return list(values)
    last, mass, result = 0.0, 0.0, []
    for value in values:
        last = weight * last + (1 - weight) * value
        mass = weight * mass + (1 - weight)
        result.append(last / mass)
    return result


@dataclass(frozen=True)
class Window:
    """The steps that a chart shows, both ends included."""

    low: float
    high: float

    @classmethod
    def over(cls, curves: Iterable[Curve]) -> "Window":
        """All the steps there are."""
        ends = [(curve.steps[0], curve.steps[-1]) for curve in curves if curve.steps]
        if not ends:
            return cls(0.0, 1.0)
        return cls(min(low for low, _ in ends), max(high for _, high in ends))

    def zoomed(self, factor: float, centre: float, whole: "Window") -> "Window":
        """Narrower (factor below 1) or wider around ``centre``, inside ``whole``."""
        width = min(whole.high - whole.low, max((self.high - self.low) * factor, 1e-9))
        share = (centre - self.low) / max(self.high - self.low, 1e-9)
        low = centre - width * min(1.0, max(0.0, share))
        return Window(low, low + width).inside(whole)

    def moved(self, share: float, whole: "Window") -> "Window":
        """Moved by a share of its width, inside ``whole``."""
        by = (self.high - self.low) * share
        return Window(self.low + by, self.high + by).inside(whole)

    def joined(self, other: "Window") -> "Window":
        """The smallest one that has both in it."""
        return Window(min(self.low, other.low), max(self.high, other.high))

    def inside(self, whole: "Window") -> "Window":
        """Moved, and cut if need be, so that it lies in ``whole``."""
        width = min(self.high - self.low, whole.high - whole.low)
        low = min(max(self.low, whole.low), whole.high - width)
        return Window(low, low + width)


def within(curve: Curve, window: Window) -> Curve:
    """The points of the window and one neighbour at each side, so that lines reach its edges."""
    first = max(0, bisect_left(curve.steps, window.low) - 1)
    last = bisect_right(curve.steps, window.high) + 1
    return Curve(curve.name, curve.steps[first:last], curve.values[first:last])


def nearest(curve: Curve, step: float) -> tuple[float, float] | None:
    """The point (step, value) nearest to a step."""
    if not curve.steps:
        return None
    right = bisect_left(curve.steps, step)
    choices = [i for i in (right - 1, right) if 0 <= i < len(curve.steps)]
    best = min(choices, key=lambda i: abs(curve.steps[i] - step))
    return curve.steps[best], curve.values[best]


def ticks(low: float, high: float, count: int) -> list[float]:
    """About ``count`` round numbers (1, 2 or 5 times a power of ten) between two others."""
    if not high > low or count < 1:
        return [low]
    rough = (high - low) / count
    power = 10.0 ** math.floor(math.log10(rough))
    step = next(m * power for m in (1, 2, 5, 10) if m * power >= rough * 0.999)
    first = math.ceil(low / step - 1e-9)
    last = math.floor(high / step + 1e-9)
    return [n * step for n in range(first, last + 1)] or [low]


def log_ticks(low: float, high: float, count: int) -> list[float]:
    """The same for a log axis: powers of ten, with 2 and 5 times them where there is room."""
    if low <= 0 or not high > low:
        return [low]
    exponents = range(math.floor(math.log10(low)), math.ceil(math.log10(high)) + 1)
    for factors in ((1, 2, 3, 5, 7), (1, 2, 5), (1,)):
        found = [f * 10.0**e for e in exponents for f in factors if low <= f * 10.0**e <= high]
        if 2 <= len(found) <= max(2, count):
            return found
    return ticks(low, high, count) if high / low < 10 else found[:: max(1, len(found) // count)]
