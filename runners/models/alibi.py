"""ALiBi positions (arXiv 2108.12409) written as rotary ones, so that Llama can run them.

Baichuan's larger layout adds slope_h * (j - i) to the attention score of head h between query i and
key j. No transformers class has that together with Llama's other parts, but rotary attention can
say it: give every head one more pair of dimensions in which the query is the constant (a, 0) and
the key the constant (0, b), set by biases, and let that pair alone turn, at a tiny frequency w.
Their product is a b sin(w (j - i)), which for small w is the linear bias wanted. All other pairs
get frequency zero and so stay as they are. The result is a plain Llama checkpoint.

The error of the sine is (w distance)^2 / 6 of the bias itself: 0.04% at a distance of 1,000, 0.7%
at 4,096, where the gentlest slope has long made the weight negligible. The bias is a difference
of two large products, so it needs float32: within thirty tokens bfloat16 is off by up to four
units. Training must leave the pair alone (``hold_positions``): what moves a query's zero would be
multiplied by the keys' constant, the same for every key but for its rounding.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from runners.models.families import ALIBI_STILL

FREQUENCY = 5e-5
_THETA = 10000.0


@dataclass(frozen=True)
class WidenedHeads:
    """Attention heads with room for the ALiBi pair: ``heads`` heads from ``narrow`` to ``wide``."""

    heads: int
    narrow: int

    @property
    def wide(self) -> int:
        """Width of a head with the pair; a multiple of 8, as fast kernels want it."""
        return (self.narrow + 2 + 7) // 8 * 8

    @property
    def _pair(self) -> tuple[int, int]:
        """The two dimensions of a wide head that turn; Llama pairs i with i + wide / 2."""
        return self.wide // 2 - 1, self.wide - 1

    @property
    def _places(self) -> Tensor:
        """Where each dimension of a narrow head goes in the wide one."""
        free = [i for i in range(self.wide) if i not in self._pair]
        return torch.tensor(free[: self.narrow])

    @property
    def query_gain(self) -> float:
        """What queries are multiplied by, as Llama divides by the root of the wide width."""
        return math.sqrt(self.wide / self.narrow)

    def rows(self, weight: Tensor) -> Tensor:
        """[heads * narrow, hidden] to [heads * wide, hidden], new rows zero."""
        out = weight.new_zeros(self.heads, self.wide, weight.shape[-1])
        out[:, self._places] = weight.view(self.heads, self.narrow, -1)
        return out.flatten(0, 1)

    def columns(self, weight: Tensor) -> Tensor:
        """[hidden, heads * narrow] to [hidden, heads * wide], new columns zero."""
        return self.rows(weight.T.contiguous()).T.contiguous()

    def query_bias(self, like: Tensor) -> Tensor:
        """The constant (1, 0) of every query, [heads * wide]."""
        bias = like.new_zeros(self.heads, self.wide)
        bias[:, self._pair[0]] = 1.0
        return bias.flatten()

    def key_bias(self, like: Tensor) -> Tensor:
        """The constant (0, b) of every key, [heads * wide], with b from the head's slope."""
        bias = torch.zeros(self.heads, self.wide, dtype=torch.float64)
        slopes = torch.tensor(alibi_slopes(self.heads), dtype=torch.float64)
        # The rotation gives a b sin(w (i - j)) for a key (0, b); its sign makes near keys win.
        bias[:, self._pair[1]] = -slopes * math.sqrt(self.wide) / FREQUENCY
        return bias.flatten().to(like.dtype)

    def rope(self, positions: int) -> dict[str, object]:
        """``rope_parameters`` of the Llama config in which only the ALiBi pair turns."""
        half = self.wide // 2
        factors = [ALIBI_STILL] * half
        pair = self._pair[0]
        factors[pair] = 1.0 / (FREQUENCY * _THETA ** (2 * pair / self.wide))
        return {
            "rope_type": "longrope",
            "rope_theta": _THETA,
            "factor": 1.0,
            "attention_factor": 1.0,
            "original_max_position_embeddings": positions,
            "short_factor": factors,
            "long_factor": factors,
        }


def hold_positions(module: nn.Module, heads: WidenedHeads) -> None:
    """Keep training away from what ALiBi added: the added rows of queries, keys and values.

    Their gradients are zeroed, of weights and biases or of the adapters on them. So an adapter
    says nothing that the original layout could not say.
    """
    added = torch.ones(heads.wide, dtype=torch.bool)
    added[heads._places] = False
    rows = added.repeat(heads.heads)

    def hold(gradient: Tensor) -> Tensor:
        return gradient.masked_fill(
            rows.to(gradient.device).view(-1, *[1] * (gradient.ndim - 1)), 0
        )

    for name, parameter in module.named_parameters():
        projects = any(f".{which}_proj." in name for which in "qkv")
        if projects and parameter.requires_grad and len(parameter) == len(rows):
            parameter.register_hook(hold)


def alibi_slopes(heads: int) -> list[float]:
    """The paper's slope of each head, for any number of heads."""
    power = 2 ** math.floor(math.log2(heads))
    slopes = [2 ** (-8 * (i + 1) / power) for i in range(power)]
    between = [2 ** (-4 * (i + 1) / power) for i in range(0, 2 * power, 2)]
    return slopes + between[: heads - power]
