"""The module made ready for training: in which precision it is, what is recomputed, where it lies.

Apart from the setup that decides, because each is a few lines about one property of a module.
"""

from collections.abc import Mapping
from typing import Any

import torch
from transformers import PreTrainedModel


def upcast_trained(model: torch.nn.Module) -> None:
    """Keep what is trained in float32; autocast computes with it in half precision.

    PEFT does so for its adapters, but not for whole modules trained beside them. Updates smaller
    than bfloat16 can tell would be lost, and float16 gradients cannot be unscaled. DeepSpeed keeps
    float32 copies of its own.
    """
    for parameter in model.parameters():
        if parameter.requires_grad and parameter.dtype in {torch.bfloat16, torch.float16}:
            parameter.data = parameter.data.float()


def checkpoint_activations(model: PreTrainedModel, *, selective: bool) -> None:
    """Recompute blocks in the backward pass; ``selective`` keeps the results of matmuls."""
    settings: dict[str, Any] = {"use_reentrant": False}
    if selective:
        from torch.utils.checkpoint import (
            CheckpointPolicy,
            create_selective_checkpoint_contexts,
        )

        kept = {
            torch.ops.aten.mm.default,
            torch.ops.aten.addmm.default,
            torch.ops.aten.bmm.default,
        }

        def policy(_context: Any, operation: Any, *_: Any, **__: Any) -> CheckpointPolicy:
            if operation in kept:
                return CheckpointPolicy.MUST_SAVE
            return CheckpointPolicy.PREFER_RECOMPUTE

        settings["context_fn"] = lambda: create_selective_checkpoint_contexts(policy)
    model.gradient_checkpointing_enable(gradient_checkpointing_kwargs=settings)


def share_out(
    module: torch.nn.Module, settings: Mapping[str, Any], dtype: torch.dtype, device: torch.device
) -> None:
    """Give each rank its share of every parameter, one parameter at a time: ZeRO-3.

    Left to DeepSpeed's engine, the whole module is first moved to every GPU, where a model may not
    fit that trains there well. ``settings`` are DeepSpeed's own. Parameters become ``dtype``, which
    is what the engine makes of them; buffers are small and go to ``device`` whole.
    """
    from deepspeed.zero import Init

    for parameter in module.parameters():
        parameter.data = parameter.data.to(dtype)
    # The batch settings are the engine's affair, and not all known yet.
    known = {key: settings[key] for key in ("zero_optimization", "bf16", "fp16") if key in settings}
    Init(
        module=module,
        config_dict_or_path={"train_micro_batch_size_per_gpu": 1, **known},
        dtype=dtype,
    )
    for part in module.modules():
        for name, buffer in part.named_buffers(recurse=False):
            setattr(part, name, buffer.to(device))
