"""The language-model loss over trained positions only, in float32, a chunk of positions at a time.

The head turns each hidden state into a vocabulary of logits, by far the largest tensor of a step.
Prompt tokens and padding are no targets, so they never reach the head; the rest goes through it in
chunks whose logits are made again in the backward pass instead of being kept.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 1 << 26
"""Most logits alive at a time: 256 MiB in float32."""


def token_losses(
    hidden: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor], vocabulary: int
) -> Tensor:
    """Cross-entropy of each position, float32 [N].

    ``hidden`` [N, H] are the states that predict ``targets`` [N]; ``head`` maps [n, H] to logits
    [n, V]; ``vocabulary`` is V, which sets the chunk size.
    """
    rows = max(1, CHUNK_LOGITS // max(1, vocabulary))

    def losses(states: Tensor, wanted: Tensor) -> Tensor:
        return cross_entropy(head(states).float(), wanted, reduction="none")

    if len(targets) <= rows:
        return losses(hidden, targets)
    parts = [
        checkpoint(losses, states, wanted, use_reentrant=False)
        for states, wanted in zip(hidden.split(rows), targets.split(rows), strict=True)
    ]
    return torch.cat(parts)
