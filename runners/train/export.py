"""What training leaves for the next step: an adapter in peft's format, or a whole model."""

import json
import shutil
from pathlib import Path

import torch
from peft import PeftModel
from torch import Tensor
from transformers import PreTrainedModel

from runners.models.tokenizer_files import copy_tokenizer


def export_weights(
    model: PreTrainedModel | PeftModel,
    weights: dict[str, Tensor],
    target: Path,
    tokenizer: Path,
    dtype: torch.dtype | None,
) -> None:
    """Write ``weights`` (trained tensors by name) as ``target``, which appears only when whole.

    An adapter names the base it belongs to; a full model is a plain checkpoint, in ``dtype`` if
    given. The tokenizer's files are put beside either.
    """
    part = target.with_name(f".{target.name}.part")
    shutil.rmtree(part, ignore_errors=True)
    part.mkdir(parents=True)
    if isinstance(model, PeftModel):
        model.save_pretrained(str(part), state_dict=weights)
        _settle_config(part / "adapter_config.json")
    else:
        cast = {n: w.to(dtype) if dtype is not None else w for n, w in weights.items()}
        model.config.use_cache = True
        if dtype is not None:
            model.config.dtype = dtype
        model.save_pretrained(str(part), state_dict=_with_buffers(model, cast))
        _plain_attention(part / "config.json")
    copy_tokenizer(tokenizer, part)
    if target.exists():
        shutil.rmtree(target)
    part.rename(target)


def _with_buffers(model: PreTrainedModel, weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """The trained tensors and the model's buffers; a tied tensor is there once."""
    parameters = {name for name, _ in model.named_parameters(remove_duplicate=False)}
    buffers = {n: b for n, b in model.state_dict().items() if n not in parameters}
    return {**buffers, **weights}


def _plain_attention(path: Path) -> None:
    # The attention implementation is a choice of a run, not of a checkpoint.
    config = json.loads(path.read_bytes())
    for key in ("_attn_implementation", "attn_implementation", "_attn_implementation_autoset"):
        config.pop(key, None)
    path.write_text(json.dumps(config, indent=2) + "\n")


def _settle_config(path: Path) -> None:
    config = json.loads(path.read_bytes())
    config["inference_mode"] = True
    # peft keeps these as sets, whose order is another one in every process.
    for key in ("target_modules", "exclude_modules", "modules_to_save"):
        if isinstance(config.get(key), list):
            config[key] = sorted(config[key])
    path.write_text(json.dumps(config, indent=2) + "\n")
