"""Logits into the next tokens: greedy, or sampled so that each row is reproducible by itself."""

from collections.abc import Sequence

import torch
from torch import Tensor

from runners.generate.decoding import Decoding
from runners.generate.engine import Request


def penalized(logits: Tensor, seen: Tensor | None, penalty: float) -> Tensor:
    """Logits with tokens already in the row made less likely (CTRL, arXiv 1909.05858).

    ``logits`` and ``seen`` are ``[rows, vocabulary]``.
    """
    if seen is None:
        return logits
    lowered = torch.where(logits < 0, logits * penalty, logits / penalty)
    return torch.where(seen, lowered, logits)


def generator_of(request: Request, seed: int) -> torch.Generator:
    """The random source of one completion: the same whatever batch or rank it falls to."""
    generator = torch.Generator()
    text = f"{seed}/{request.task}/{request.index}/{request.sample}"
    # FNV-1a: Python's own hash of text differs from process to process.
    value = 0xCBF29CE484222325
    for byte in text.encode():
        value = ((value ^ byte) * 0x100000001B3) % (1 << 64)
    generator.manual_seed(value >> 1)
    return generator


def sampled(logits: Tensor, decoding: Decoding, generators: Sequence[torch.Generator]) -> Tensor:
    """A token a row, by temperature and nucleus (Holtzman et al., arXiv 1904.09751)."""
    probabilities = torch.softmax(logits.float() / decoding.temperature, dim=-1).cpu()
    ordered, order = probabilities.sort(dim=-1, descending=True)
    # A token stays while the mass before it is short of top_p, so the first always stays.
    ordered[ordered.cumsum(-1) - ordered >= decoding.top_p] = 0.0
    picks = [
        torch.multinomial(row, 1, generator=generator)
        for row, generator in zip(ordered, generators, strict=True)
    ]
    return order.gather(-1, torch.stack(picks)).squeeze(-1).to(logits.device)
