"""What each trained token counts for: the multi-task losses as token weights.

Every loss of MFTCoder (arXiv 2311.02303) is a weighted sum of token losses, so it is fully said by
the weight of a token. The denominators run over the whole optimizer step, over all ranks and
micro-batches, which the plan of the step tells without any communication. So the gradient does not
depend on how a batch is cut into micro-batches and ranks, and the cases keep their meaning at
micro-batch 1, where per-micro-batch denominators would make all four the same.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

LossMode = Literal["case1", "case2", "case3", "case4", "coba", "fixed"]
Ints = NDArray[np.integer]
Floats = NDArray[np.float64]


def sample_weights(
    tokens: Ints,
    tasks: Ints,
    mode: LossMode,
    task_weights: Floats | None = None,
) -> Floats:
    """Weight of one trained token of each sample of an optimizer step, float64 [B].

    ``tokens`` [B] counts each sample's trained tokens, ``tasks`` [B] its task. With T all tokens,
    T_b those of sample b, K the tasks present, T_k and n_k the tokens and samples of task k:
    case1 1/T, case2 1/(B T_b), case3 1/(K T_k), case4 1/(K n_k T_b). ``coba`` and ``fixed`` give
    task k the share ``task_weights[k]`` (indexed by task id): ω_k/T_k. They are not normalized
    over the tasks present, or a step with one task would not feel its weight. Samples without
    trained tokens count nowhere and get 0.
    """
    weights = np.zeros(len(tokens), dtype=np.float64)
    some = tokens > 0
    counts, kinds = tokens[some].astype(np.float64), tasks[some]
    if not counts.size:
        return weights
    if mode == "case1":
        weights[some] = 1 / counts.sum()
        return weights
    if mode == "case2":
        weights[some] = 1 / (counts.size * counts)
        return weights
    _, which, samples_of_task = np.unique(kinds, return_inverse=True, return_counts=True)
    tokens_of_task = np.bincount(which, weights=counts)
    present = len(samples_of_task)
    if mode == "case3":
        weights[some] = 1 / (present * tokens_of_task[which])
    elif mode == "case4":
        weights[some] = 1 / (present * samples_of_task[which] * counts)
    else:
        if task_weights is None:
            raise ValueError(f"mode {mode} needs task_weights")
        weights[some] = task_weights[kinds] / tokens_of_task[which]
    return weights


@dataclass(frozen=True)
class StepWeights:
    """The token weights of one optimizer step, looked up by sample.

    ``samples`` are the step's distinct sample indices, ascending; ``weights`` [same] belong to one
    trained token of each; ``task_tokens`` [tasks] counts the trained tokens of each task.
    """

    samples: NDArray[np.int64]
    weights: Floats
    task_tokens: NDArray[np.int64]

    def of_tokens(self, sample_ids: NDArray[np.int64]) -> NDArray[np.float32]:
        """Weight of each token by its sample id; 0 where the id is -1 (padding)."""
        if not self.samples.size:
            return np.zeros(sample_ids.shape, dtype=np.float32)
        at = np.clip(np.searchsorted(self.samples, sample_ids), 0, len(self.samples) - 1)
        found = self.samples[at] == sample_ids
        return np.where(found, self.weights[at], 0.0).astype(np.float32)


def step_weights(
    samples: Ints,
    tokens: Ints,
    tasks_of: Ints,
    tasks: int,
    mode: LossMode,
    task_weights: Floats | None = None,
) -> StepWeights:
    """Token weights of a step that trains ``samples`` [B], with repeats, over all ranks.

    ``tokens`` [B] counts the trained tokens of each, ``tasks_of`` [B] names its task; ``tasks`` is
    how many tasks the data set has.
    """
    weights = sample_weights(tokens, tasks_of, mode, task_weights)
    distinct, first = np.unique(samples, return_index=True)
    task_tokens = np.bincount(tasks_of, weights=tokens, minlength=tasks).astype(np.int64)
    return StepWeights(distinct.astype(np.int64), weights[first], task_tokens)


def fixed_weights(asked: Mapping[str, float], tasks: Sequence[str]) -> Floats:
    """Shares of ``weighted_loss_mode=fixed``, scaled to sum to 1 over the data set's tasks.

    Raises ``KeyError`` with the task that has no weight; a name that is no task is the caller's to
    refuse.
    """
    values = np.array([asked[task] for task in tasks], dtype=np.float64)
    shares: Floats = values / values.sum()
    return shares
