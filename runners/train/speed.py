"""How much of the hardware's arithmetic a run uses: model FLOPs over peak FLOPs (MFU).

Counted as in PaLM (arXiv 2204.02311), of the work the model needs: padding is not counted, nor what
gradient checkpointing computes twice. A frozen base has no weight gradients, so LoRA counts 4N
where full training counts 6N; attention is counted over segments, causal half only; the head is
counted for trained positions, the only ones it is applied to.
"""

from collections.abc import Mapping
from typing import Any

from runners.hardware.shape import read_shape


def step_flops(
    model_config: Mapping[str, Any], *, full: bool, tokens: int, squares: int, trained: int
) -> float:
    """FLOPs that forward and backward of a step need.

    ``tokens`` without padding, ``squares`` the summed squares of segment lengths, ``trained`` the
    positions the head is applied to.
    """
    shape = read_shape(model_config)
    per_weight = 6 if full else 4
    matrices = tokens * shape.linear_weights + trained * shape.vocab * shape.hidden
    # Scores and values, 2 matmuls of 2 FLOPs, half of them masked; twice again for the backward.
    attention = 6.0 * squares * shape.query_width * shape.layers
    return per_weight * matrices + attention
