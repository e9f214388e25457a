"""From a step's plan to this rank's micro-batches and the weights of their tokens."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from runners.config import TrainConfig
from runners.data.batch import collate, trained_in_row
from runners.data.plan import Row, StepPlan
from runners.data.token_cache import TokenCache
from runners.train.inputs import Inputs, make_inputs
from runners.train.weights import StepWeights, step_weights


@dataclass(frozen=True)
class Batcher:
    """Lays rows out for the model; the same settings for training and validation."""

    cache: TokenCache
    config: TrainConfig
    pad_id: int
    flat: bool
    device: torch.device
    mask_dtype: torch.dtype | None = None
    window: int | None = None

    def weights(self, plan: StepPlan, task_weights: NDArray[np.float64] | None) -> StepWeights:
        """Token weights of a whole optimizer step, from the plan alone."""
        segments = [pair for row in plan.all_rows() for pair in trained_in_row(self.cache, row)]
        pairs = np.array(segments, dtype=np.int64).reshape(-1, 2)
        if self.config.padding_mode == "concat" and len(pairs):
            # Pieces of one sample are one sample of the loss.
            samples, which = np.unique(pairs[:, 0], return_inverse=True)
            counts = np.bincount(which, weights=pairs[:, 1]).astype(np.int64)
            pairs = np.stack([samples, counts], axis=1)
        return step_weights(
            pairs[:, 0],
            pairs[:, 1],
            self.cache.task_ids[pairs[:, 0]],
            len(self.cache.tasks),
            self.config.weighted_loss_mode,
            task_weights,
        )

    def micro_batches(self, plan: StepPlan, rank: int, weights: StepWeights) -> Iterator[Inputs]:
        """This rank's micro-batches; those that are empty on every rank are left out."""
        micros = plan.rows[rank]
        used = [i for i in range(len(micros)) if any(rows[i] for rows in plan.rows)]
        for i in used:
            yield self.inputs([rows[i] for rows in plan.rows], rank, weights)

    def inputs(self, of_ranks: Sequence[Sequence[Row]], rank: int, weights: StepWeights) -> Inputs:
        """The micro-batch of ``rank`` as tensors; ``of_ranks`` are those of all ranks."""
        rows = of_ranks[rank]
        most = 0
        if len(of_ranks) > 1:
            most = max(self._trained(others) for others in of_ranks)
        batch = collate(
            self.cache,
            rows,
            seq_length=self.config.seq_length,
            dynamic=self.config.use_dynamic_padding,
            pad_id=self.pad_id,
        )
        return make_inputs(
            batch,
            weights,
            flat=self.flat,
            device=self.device,
            mask_dtype=self.mask_dtype,
            window=self.window,
            most=most,
        )

    def _trained(self, rows: Sequence[Row]) -> int:
        return sum(count for row in rows for _, count in trained_in_row(self.cache, row))
