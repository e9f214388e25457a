"""The learning rate at each optimizer step, as a pure function of the step.

Separate from the optimizer because it is what the person sets, sees in a chart and may want to know
before a run; and because a function of the step needs no state to be resumed.
"""

import math
from dataclasses import dataclass
from typing import Literal

Shape = Literal["cosine", "linear", "constant", "constant_with_warmup"]


@dataclass(frozen=True)
class Schedule:
    """Warm-up from 0 to ``peak`` over ``warmup`` steps, then a decay to ``floor`` at ``total``.

    Steps are optimizer steps, counted from 0. ``constant`` has no warm-up and no decay.
    """

    shape: Shape
    peak: float
    floor: float
    warmup: int
    total: int

    def at(self, step: int) -> float:
        """Learning rate of optimizer step ``step``; the last step has ``floor``."""
        if self.shape == "constant":
            return self.peak
        if step < self.warmup:
            # The first step already learns something: a rate of 0 would waste it.
            return self.peak * (step + 1) / (self.warmup + 1)
        if self.shape == "constant_with_warmup":
            return self.peak
        span = max(1, self.total - 1 - self.warmup)
        progress = min(1.0, (step - self.warmup) / span)
        cosine = 0.5 * (1 + math.cos(math.pi * progress))
        share = 1 - progress if self.shape == "linear" else cosine
        return self.floor + (self.peak - self.floor) * share
