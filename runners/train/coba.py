"""CoBa: task weights that follow how each task converges (arXiv 2410.06741).

Pure arithmetic over the history of validation losses, apart from the loop so that it can be checked
by hand and checkpointed as plain numbers.
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
_TINY = 1e-12


@dataclass
class CoBa:
    """Task weights ω from validation losses; uniform until two points are known.

    ``window`` is N, the points in a slope; ``tau`` sharpens the divergence factor. After ``update``
    ``weights`` [K] sum to 1 and ``divergence_factor`` is in [0, 1].
    """

    tasks: int
    window: int
    tau: float
    weights: Floats = field(init=False)
    divergence_factor: float = field(init=False, default=1.0)
    _ratios: list[list[float]] = field(init=False, default_factory=list)
    _slopes: list[list[float]] = field(init=False, default_factory=list)
    _divergences: list[float] = field(init=False, default_factory=list)
    _total_steepest: float = field(init=False, default=0.0)
    _initial: list[float] | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.weights = np.full(self.tasks, 1 / self.tasks)

    def update(self, losses: Floats, *, warming_up: bool = False) -> None:
        """Take in the validation loss of every task, [K], and set the weights for what follows.

        While ``warming_up`` the losses are remembered and the weights stay even: the first slopes
        are those of a learning rate that has only begun to rise. A non-finite loss is refused with
        ``ValueError``: it would poison every later weight.
        """
        if not np.isfinite(losses).all():
            raise ValueError("CoBa needs finite validation losses")
        if self._initial is None:
            self._initial = [max(float(loss), _TINY) for loss in losses]
        self._ratios.append([float(v) for v in losses / np.array(self._initial)])
        self._ratios = self._ratios[-self.window :]
        if warming_up or len(self._ratios) < 2:
            return
        slopes = _slope(np.array(self._ratios))
        self._slopes.append(slopes.tolist())
        self._slopes = self._slopes[-self.window :]
        relative = relative_convergence(slopes)
        absolute = absolute_convergence(np.array(self._slopes))
        self.divergence_factor = self._factor(float(slopes.max()))
        self.weights = self.divergence_factor * relative + (1 - self.divergence_factor) * absolute

    def _factor(self, steepest: float) -> float:
        """DF(t) = min(t softmax_t(-τ t α_max / Σ α_max), 1), the quotient without its sign.

        While every task converges, and while the worst diverges, α_max and its sum have one sign,
        and the quotient is positive as it stands: slopes that flatten keep the factor at 1, slopes
        steeper than those before lower it. In between they have not. A task that begins to diverge
        after a long descent would flip the quotient and hold the factor at 1, when it should fall;
        and a sum that passes zero would leave an exponent that no later one comes up to. So both
        are of absolute values, which is the same thing wherever the signs agree.
        """
        self._total_steepest += abs(steepest)
        t = len(self._divergences) + 1
        quotient = t * abs(steepest) / max(self._total_steepest, _TINY)
        self._divergences.append(-self.tau * quotient)
        return float(min(t * _softmax(np.array(self._divergences))[-1], 1.0))

    def state(self) -> dict[str, Any]:
        """Everything that goes into a checkpoint, as JSON values."""
        return {
            "weights": self.weights.tolist(),
            "divergence_factor": self.divergence_factor,
            "ratios": self._ratios,
            "slopes": self._slopes,
            "divergences": self._divergences,
            "total_steepest": self._total_steepest,
            "initial": self._initial,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` left off."""
        self.weights = np.array(state["weights"], dtype=np.float64)
        self.divergence_factor = state["divergence_factor"]
        self._ratios = [list(row) for row in state["ratios"]]
        self._slopes = [list(row) for row in state["slopes"]]
        self._divergences = list(state["divergences"])
        self._total_steepest = state["total_steepest"]
        self._initial = state["initial"]


def relative_convergence(slopes: Floats) -> Floats:
    """RCS [K]: softmax over tasks of K α_i / Σ_j |α_j|; the slower task weighs more."""
    return _softmax(len(slopes) * slopes / max(np.abs(slopes).sum(), _TINY))


def absolute_convergence(history: Floats) -> Floats:
    """ACS [K] from slopes [N, K], newest last: softmax of -N α_i(t) / Σ_t |α_i|.

    Each task is compared with its own past, so one that begins to diverge loses weight.
    """
    spread = np.maximum(np.abs(history).sum(axis=0), _TINY)
    return _softmax(-len(history) * history[-1] / spread)


def _slope(ratios: Floats) -> Floats:
    """Least-squares slope of each column over equally spaced rows."""
    x = np.arange(len(ratios), dtype=np.float64)
    x -= x.mean()
    slopes: Floats = x @ ratios / (x @ x)
    return slopes


def _softmax(values: Floats) -> Floats:
    powers = np.exp(values - values.max())
    shares: Floats = powers / powers.sum()
    return shares
