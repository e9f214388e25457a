"""AdamW over the trained parameters, grouped by weight decay and by LoRA+ rate."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import nn

from runners.config import TrainConfig


def make_optimizer(
    module: nn.Module, config: TrainConfig, device: torch.device
) -> torch.optim.Optimizer:
    """AdamW; each group carries ``rate_factor``, what the scheduled rate is multiplied by.

    Biases and norms are not decayed. LoRA+ (arXiv 2402.12354) trains the B matrices faster.
    """
    groups = [
        {"params": parameters, "weight_decay": decay, "rate_factor": factor}
        for (decay, factor), parameters in _grouped(module, config).items()
    ]
    return torch.optim.AdamW(
        groups,
        lr=config.learning_rate,
        betas=(config.adam_beta1, config.adam_beta2),
        fused=True if device.type == "cuda" and config.offload_optimizer == "none" else None,
    )


def _grouped(module: nn.Module, config: TrainConfig) -> dict[tuple[float, float], list[Any]]:
    groups: dict[tuple[float, float], list[Any]] = {}
    for name, parameter in _trained(module):
        decay = config.weight_decay if parameter.ndim > 1 else 0.0
        factor = 1.0
        if config.lora_plus_ratio is not None and ("lora_B" in name or "lora_embedding_B" in name):
            factor = config.lora_plus_ratio
        groups.setdefault((decay, factor), []).append(parameter)
    return groups


def _trained(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    return ((name, p) for name, p in module.named_parameters() if p.requires_grad)
