"""A micro-batch as tensors: what the model reads, and what the loss is taken over.

Two layouts of the same rows. ``flat``: every row's tokens end to end, padding left out, segments
told to the attention. ``rows``: the padded rows as they are, with a block-diagonal mask; what
eager and plain sdpa attention need.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from runners.data.batch import Batch
from runners.models.segments import Segments
from runners.train.weights import StepWeights


@dataclass(frozen=True)
class Inputs:
    """One micro-batch on its device.

    ``model`` are the keyword arguments of the model's backbone. ``predicts`` int64 [n] are the
    positions, in its output with rows flattened, whose state predicts a trained token;
    ``targets`` int64 [n] those tokens, ``weights`` float32 [n] what each counts for and ``tasks``
    int64 [n] its task. ``tokens`` counts what is no padding, ``squares`` the sum of squared
    segment lengths, which attention's cost goes with. ``most`` is the largest n of any rank.
    ``lengths`` int64, shaped as the model's ``input_ids``, is the length of each token's segment;
    1 for padding.
    """

    model: dict[str, Any]
    predicts: Tensor
    targets: Tensor
    weights: Tensor
    tasks: Tensor
    tokens: int
    squares: int
    most: int
    lengths: Tensor


def make_inputs(
    batch: Batch,
    weights: StepWeights,
    *,
    flat: bool,
    device: torch.device,
    mask_dtype: torch.dtype | None = None,
    window: int | None = None,
    most: int = 0,
) -> Inputs:
    """Lay ``batch`` out for the model.

    ``mask_dtype`` None gives the boolean mask of sdpa, a float type the additive one of eager.
    ``window`` is the model's sliding window, which the masks of the padded layout must hold.
    ``most`` is what other ranks have: trained tokens in their micro-batch of this turn.
    """
    rows, columns = np.nonzero(batch.loss_mask)
    token_weights = weights.of_tokens(batch.sample_ids[rows, columns])
    tasks = batch.task_ids[rows, columns].astype(np.int64)
    targets = batch.input_ids[rows, columns]
    lengths = _segment_lengths(batch.segment_ids)
    if flat:
        model, place = _flat(batch, lengths, device)
        predicts = place[rows, columns] - 1
    else:
        model = _rows(batch, device, mask_dtype, window)
        predicts = rows * batch.input_ids.shape[1] + columns - 1
    return Inputs(
        model=model,
        predicts=torch.from_numpy(predicts).to(device),
        targets=torch.from_numpy(targets).to(device),
        weights=torch.from_numpy(token_weights).to(device),
        tasks=torch.from_numpy(tasks).to(device),
        tokens=int(lengths.sum()),
        squares=int((lengths.astype(np.int64) ** 2).sum()),
        most=max(most, len(targets)),
        lengths=_token_lengths(batch.segment_ids, flat=flat).to(device),
    )


def _segment_lengths(segment_ids: np.ndarray) -> np.ndarray:
    """Lengths of all segments in order, row by row; padding is none."""
    width = int(segment_ids.max(initial=0)) + 1
    counts = np.stack([np.bincount(row, minlength=width) for row in segment_ids])[:, 1:]
    lengths: np.ndarray = counts[counts > 0]
    return lengths


def _token_lengths(segment_ids: np.ndarray, *, flat: bool) -> Tensor:
    counts = np.stack([np.bincount(row, minlength=segment_ids.max() + 1) for row in segment_ids])
    counts[:, 0] = 1
    lengths = torch.from_numpy(np.take_along_axis(counts, segment_ids.astype(np.int64), axis=1))
    if not flat:
        return lengths
    real = torch.from_numpy(segment_ids > 0)
    return lengths[real].unsqueeze(0) if real.any() else lengths[:1, :1]


def _flat(
    batch: Batch, lengths: np.ndarray, device: torch.device
) -> tuple[dict[str, Any], np.ndarray]:
    real = batch.segment_ids > 0
    if not real.any():
        # A rank without rows still steps with the others: one token that nothing is asked of.
        real = np.zeros_like(real)
        real[0, 0] = True
        lengths = np.array([1])
    place = np.cumsum(real.ravel()).reshape(real.shape) - 1
    edges = np.concatenate([[0], np.cumsum(lengths)]).astype(np.int32)
    segments = Segments(
        torch.from_numpy(edges).to(device), tuple(edges.tolist()), int(lengths.max())
    )
    model = {
        "input_ids": torch.from_numpy(batch.input_ids[real]).unsqueeze(0).to(device),
        "position_ids": torch.from_numpy(batch.position_ids[real]).unsqueeze(0).to(device),
        "segments": segments,
    }
    return model, place


def _rows(
    batch: Batch, device: torch.device, mask_dtype: torch.dtype | None, window: int | None
) -> dict[str, Any]:
    segments = torch.from_numpy(batch.segment_ids).to(device)
    length = segments.shape[1]
    same = segments[:, :, None] == segments[:, None, :]
    # Padding attends to itself and is never read; a row of nothing but -inf would be NaN.
    causal = torch.ones(length, length, dtype=torch.bool, device=device).tril()
    if window is not None:
        causal = causal.triu(1 - window)
    mask = (same & causal).unsqueeze(1)
    if mask_dtype is not None:
        mask = torch.zeros_like(mask, dtype=mask_dtype).masked_fill(
            ~mask, torch.finfo(mask_dtype).min
        )
    return {
        "input_ids": torch.from_numpy(batch.input_ids).to(device),
        "position_ids": torch.from_numpy(batch.position_ids).to(device),
        "attention_mask": mask,
    }
