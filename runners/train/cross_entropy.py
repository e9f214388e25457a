"""The language-model loss over trained positions only, in float32, a chunk of positions at a time.

The head turns each hidden state into a vocabulary of logits, by far the largest tensor of a step.
Prompt tokens and padding are no targets, so they never reach the head; the rest goes through it in
chunks whose logits are made again in the backward pass instead of being kept.

Under ZeRO-3 each use of the head gathers it from all ranks, forward and backward, so all ranks must
use it equally often. They agree on the largest number of positions that any of them has, and one
with fewer uses the head for nothing.
"""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy
from torch.utils.checkpoint import checkpoint

CHUNK_LOGITS = 1 << 26
"""Most logits alive at a time: 256 MiB in float32."""


def token_losses(
    hidden: Tensor,
    targets: Tensor,
    head: Callable[[Tensor], Tensor],
    vocabulary: int,
    most: int = 0,
) -> Tensor:
    """Cross-entropy of each position, float32 [N].

    ``hidden`` [N, H] are the states that predict ``targets`` [N]; ``head`` maps [n, H] to logits
    [n, V]; ``vocabulary`` is V, which sets the chunk size. ``most`` is the largest N of any rank:
    the head is used as often as that takes, at least once.
    """
    rows = max(1, CHUNK_LOGITS // max(1, vocabulary))
    chunks = max(1, -(-max(most, len(targets)) // rows))

    def losses(states: Tensor, wanted: Tensor) -> Tensor:
        return cross_entropy(head(states).float(), wanted, reduction="none")

    if chunks == 1:
        return losses(hidden, targets)
    parts = []
    for first in range(0, chunks * rows, rows):
        # Beyond the end both are empty; the head then gets a gradient of zeros.
        here = slice(first, first + rows)
        parts.append(checkpoint(losses, hidden[here], targets[here], use_reentrant=False))
    return torch.cat(parts)
