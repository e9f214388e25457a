"""From verdicts to pass@k, with how sure one can be, and the metrics file."""

import json
import math
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_Z95 = 1.959963984540054
_RESAMPLES = 2000


@dataclass(frozen=True)
class PassAtK:
    """pass@k over a task's questions: the estimate and its 95% confidence interval, in [0, 1]."""

    k: int
    value: float
    low: float
    high: float


def pass_at_k(samples: int, passed: int, k: int) -> float:
    """The unbiased estimate for one question: 1 - C(n-c, k) / C(n, k) (Chen et al. 2021).

    ``samples`` n >= k generations, of which ``passed`` c passed. Raises ``ValueError`` if n < k.
    """
    if not 1 <= k <= samples:
        raise ValueError(f"pass@{k} needs at least {k} samples a question, not {samples}")
    if samples - passed < k:
        return 1.0
    return 1.0 - math.comb(samples - passed, k) / math.comb(samples, k)


def score(counts: Sequence[tuple[int, int]], k: int) -> PassAtK:
    """pass@k of a task from (samples, passed) of each question.

    One sample a question is a proportion and gets Wilson's interval; else questions are resampled
    (percentile bootstrap with a fixed seed).
    """
    each = np.array([pass_at_k(samples, passed, k) for samples, passed in counts])
    if len(each) == 0:
        raise ValueError("no question was judged")
    value = float(each.mean())
    if all(samples == 1 for samples, _ in counts):
        low, high = _wilson(int(each.sum()), len(each))
    else:
        draws = np.random.default_rng(0).choice(each, size=(_RESAMPLES, len(each))).mean(axis=1)
        low, high = (float(edge) for edge in np.quantile(draws, (0.025, 0.975)))
    return PassAtK(k, value, low, high)


def _wilson(passed: int, total: int) -> tuple[float, float]:
    share, z2 = passed / total, _Z95**2
    centre = share + z2 / (2 * total)
    spread = _Z95 * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    scale = 1 + z2 / total
    return max(0.0, (centre - spread) / scale), min(1.0, (centre + spread) / scale)


def write_metrics(
    path: Path, task: str, scores: Sequence[PassAtK], config: Mapping[str, Any]
) -> None:
    """Write ``{task: {"pass@k": x}, "config": {…}}``, whole or not at all."""
    content = {task: {f"pass@{s.k}": s.value for s in scores}, "config": dict(config)}
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    with temporary.open("w", encoding="utf-8") as file:
        json.dump(content, file, indent=2)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
