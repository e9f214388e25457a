"""Steps, tokens and time of a training run, before it runs.

Operations follow Kaplan et al. (arXiv 2001.08361), as PaLM counts utilisation (arXiv 2204.02311):
a trained matrix entry costs 6 operations a token (2 forward, 2 for the gradient of what flows
through, 2 for its own gradient), a frozen one 4; attention adds 12 L q S/2 a token for causal
attention over segments of S positions. Gradient checkpointing runs the blocks forward once more,
which takes time but is not counted as useful.
"""

import math
from dataclasses import dataclass

from runners.config import TrainConfig
from runners.hardware.peaks import peak_flops
from runners.hardware.probe import Hardware
from runners.hardware.recipe import Recipe
from runners.hardware.shape import ModelShape

ASSUMED_UTILISATION = 0.4
"""Share of a GPU's peak that training is taken to reach; a run's own MFU replaces it."""

ASSUMED_FILLING = 0.98
"""Share of the positions that packing fills."""


@dataclass(frozen=True)
class DataCounts:
    """What validation counted: training samples, their tokens, and the tokens that are targets."""

    samples: int
    tokens: int
    trained_tokens: int

    @property
    def trained_share(self) -> float:
        """Share of the tokens that are targets of the loss."""
        return self.trained_tokens / self.tokens if self.tokens else 1.0

    @property
    def mean(self) -> float:
        """Mean length of a sample in tokens."""
        return self.tokens / self.samples if self.samples else float("inf")


@dataclass(frozen=True)
class Speed:
    """``steps`` optimizer steps over ``tokens`` tokens in about ``seconds``; None: not known.

    ``flops_per_token`` counts useful operations, ``tokens_per_second`` is of all ranks, ``basis``
    says what the time rests on.
    """

    tokens_per_step: int
    flops_per_token: float
    steps: int | None
    tokens: int | None
    tokens_per_second: float | None
    seconds: float | None
    basis: str


def flops_per_token(shape: ModelShape, recipe: Recipe, *, segment: float | None = None) -> float:
    """Useful operations a token; ``segment`` is the mean length attention spans, else a row's."""
    span = segment if segment is not None else recipe.length
    each = 6 if recipe.method == "full" else 4
    return each * _matrix_entries(shape, recipe) + 12 * shape.layers * shape.query_width * span / 2


def _matrix_entries(shape: ModelShape, recipe: Recipe) -> float:
    # The head is applied to trained positions only.
    return shape.linear_weights + recipe.trained_share * shape.vocab * shape.hidden


def plan_speed(
    config: TrainConfig,
    shape: ModelShape,
    recipe: Recipe,
    hardware: Hardware,
    data: DataCounts | None = None,
) -> Speed:
    """Steps and time of ``config``; without ``data`` only what follows from max_train_steps."""
    rows_per_step = recipe.rows * recipe.accumulation * recipe.ranks
    segment = float(recipe.length)
    per_row = float(recipe.length)
    if data is not None and data.samples:
        mean = min(data.mean, recipe.length)
        segment = mean
        per_row = recipe.length * ASSUMED_FILLING if _packs(config) else mean
    useful = flops_per_token(shape, recipe, segment=segment)
    steps = _steps(config, rows_per_step, per_row, data)
    tokens_per_step = round(rows_per_step * per_row)
    tokens = steps * tokens_per_step if steps is not None else None
    rate, basis = _rate(useful, config, shape, recipe, hardware)
    return Speed(
        tokens_per_step=tokens_per_step,
        flops_per_token=useful,
        steps=steps,
        tokens=tokens,
        tokens_per_second=rate,
        seconds=tokens / rate if tokens is not None and rate else None,
        basis=basis,
    )


def _packs(config: TrainConfig) -> bool:
    return config.padding_mode in {"pack", "concat"}


def _steps(
    config: TrainConfig, rows_per_step: int, per_row: float, data: DataCounts | None
) -> int | None:
    limit = config.max_train_steps
    if data is None:
        return limit
    rows = math.ceil(data.tokens / per_row) if _packs(config) else data.samples
    steps = math.ceil(math.ceil(rows / rows_per_step) * config.num_train_epochs)
    return min(steps, limit) if limit is not None else steps


def _rate(
    useful: float, config: TrainConfig, shape: ModelShape, recipe: Recipe, hardware: Hardware
) -> tuple[float | None, str]:
    """Tokens a second of all ranks, and what that rests on."""
    peak, missing = _peak(config, recipe, hardware)
    if peak is None:
        return None, missing
    again = 2.0 * shape.linear_weights if recipe.checkpointing == "full" else 0.0
    rate = peak * ASSUMED_UTILISATION * recipe.ranks / (useful + again)
    return rate, (
        f"{ASSUMED_UTILISATION:.0%} of {peak / 1e12:g} TFLOP/s assumed on each of "
        f"{recipe.ranks} {'rank' if recipe.ranks == 1 else 'ranks'}"
    )


def _peak(config: TrainConfig, recipe: Recipe, hardware: Hardware) -> tuple[float | None, str]:
    if config.peak_tflops is not None:
        return config.peak_tflops * 1e12, ""
    if recipe.device == "cpu":
        return None, "no time: a CPU's rate shows in the first steps (or set peak_tflops)"
    names = sorted({device.name for device in hardware.usable})
    known = [peak for name in names if (peak := peak_flops(name)) is not None]
    if len(known) < len(names):
        return None, f"no time: the peak rate of {', '.join(names)} is not known: set peak_tflops"
    return min(known), ""
