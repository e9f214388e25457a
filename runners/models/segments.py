"""Attention within segments only: what keeps packed samples from seeing each other.

Registered with transformers as an attention implementation of its own, so every family gets it
without a line of its modelling code changed. Rows are laid end to end without their padding, and
each segment attends to itself: with the variable-length flash kernel on a GPU, segment by segment
on a CPU and on GPUs too old for the kernel. No mask is ever made, so a row of 4,096 with twenty
samples costs what the samples cost.
"""

from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention
from transformers import AttentionInterface

NAME = "mft_segments"


@dataclass(frozen=True)
class Segments:
    """The segments of a flat row: ``bounds`` int32 [n + 1] on the device, the same as ints in
    ``edges``, and the ``longest`` length."""

    bounds: Tensor
    edges: tuple[int, ...]
    longest: int


def segment_attention(
    module: torch.nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    sliding_window: int | None = None,
    segments: Segments | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """Causal attention of each segment with itself.

    ``query`` [1, heads, N, width]; ``key`` and ``value`` may have fewer heads. Without
    ``segments`` (generation, plain evaluation) the whole row is one. Returns [1, N, heads, width].
    """
    if segments is None:
        raise ValueError(f"attention {NAME} runs on flat rows and needs their segments")
    grouped = key.shape[1] != query.shape[1]
    dtype = compute_type(query)
    if query.is_cuda and dtype != torch.float32 and dropout == 0.0 and _has_varlen(query.device):
        from torch.nn.attention.varlen import varlen_attn

        query, key, value = query.to(dtype), key.to(dtype), value.to(dtype)
        out = varlen_attn(
            query[0].transpose(0, 1),
            key[0].transpose(0, 1),
            value[0].transpose(0, 1),
            segments.bounds,
            segments.bounds,
            segments.longest,
            segments.longest,
            scale=scaling,
            window_size=(sliding_window - 1 if sliding_window else -1, 0),
            enable_gqa=grouped,
        )
        assert isinstance(out, Tensor)
        return out.unsqueeze(0), None
    parts = []
    for start, stop in zip(segments.edges, segments.edges[1:], strict=False):
        here = slice(start, stop)
        window = _window_mask(stop - start, sliding_window, query.device)
        parts.append(
            scaled_dot_product_attention(
                query[:, :, here],
                key[:, :, here],
                value[:, :, here],
                attn_mask=window,
                is_causal=window is None,
                dropout_p=dropout if module.training else 0.0,
                scale=scaling,
                enable_gqa=grouped,
            )
        )
    return torch.cat(parts, dim=2).transpose(1, 2), None


def compute_type(query: Tensor) -> torch.dtype:
    """The type attention computes in: autocast's where it is on.

    With float32 weights the rotary embedding makes the query float32 again, and autocast, which
    does this for torch's own operations, does not know the variable-length kernel.
    """
    if query.dtype != torch.float64 and torch.is_autocast_enabled(query.device.type):
        return torch.get_autocast_dtype(query.device.type)
    return query.dtype


@cache
def _has_varlen(device: torch.device) -> bool:
    return varlen_runs_on(torch.cuda.get_device_capability(device))


def varlen_runs_on(capability: tuple[int, int]) -> bool:
    """Whether a GPU of this compute capability has the flash kernel: Ampere (8.0) and later."""
    return capability >= (8, 0)


def _window_mask(length: int, window: int | None, device: torch.device) -> Tensor | None:
    if window is None or length <= window:
        return None
    at = torch.arange(length, device=device)
    behind = at[:, None] - at[None, :]
    return (behind >= 0) & (behind < window)


# Registered as attention but not as a mask maker: transformers then makes no mask at all.
AttentionInterface.register(NAME, segment_attention)
