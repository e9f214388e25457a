"""Load a base model for training and put adapters on it.

What can go wrong with a checkpoint goes wrong here, with a sentence that names the file, the
module or the key.
"""

import importlib.util
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from peft import LoraConfig, PeftModel, get_peft_model
from torch import nn
from transformers import AutoModelForCausalLM, BitsAndBytesConfig, PreTrainedModel
from transformers.pytorch_utils import Conv1D

from runners.config import TrainConfig
from runners.errors import MissingInputError, UsageError
from runners.models import segments
from runners.models.families import Family, detect_family, read_model_config

_HUB_FILES = ["*.json", "*.safetensors", "*.model", "*.tiktoken", "*.txt"]
"""What of a hub repository is fetched."""

AttentionWay = Literal["flat", "sdpa", "eager"]


@dataclass(frozen=True)
class Precision:
    """``storage`` is the type frozen weights are kept in, ``compute`` the type of the matmuls."""

    storage: torch.dtype
    compute: torch.dtype


def attention_way(config: TrainConfig) -> AttentionWay:
    """How attention is laid out: flat rows and segments unless sdpa or eager is asked for."""
    if config.attention == "sdpa" or config.attention == "eager":
        return config.attention
    return "flat"


def fetch_base(name: str) -> Path:
    """The folder of a base model: the folder itself, or the hub's snapshot of it.

    Raises ``MissingInputError`` when it is neither.
    """
    folder = Path(name).expanduser()
    if folder.exists() or name.startswith((".", "/", "~")) or name.count("/") != 1:
        return folder.absolute()
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, LocalEntryNotFoundError

    try:
        folder = Path(snapshot_download(name, allow_patterns=_HUB_FILES))
        if not any(folder.glob("*.safetensors")):
            # First-generation checkpoints often have pickles only; others have them twice.
            folder = Path(
                snapshot_download(name, allow_patterns=[*_HUB_FILES, "pytorch_model*.bin"])
            )
        return folder
    except (HfHubHTTPError, LocalEntryNotFoundError, OSError) as error:
        raise MissingInputError(
            f"there is no such folder, and the hub gave no such model ({type(error).__name__})",
            where=f"pretrained_model_path: {name}",
            fix="Check the spelling, the network and, for a gated model, `hf auth login`.",
        ) from error


def load_base(
    folder: Path, config: TrainConfig, precision: Precision, device: torch.device
) -> PreTrainedModel:
    """Load the native checkpoint ``folder`` with the attention and quantization asked for."""
    way = attention_way(config)
    options: dict[str, Any] = {
        "attn_implementation": segments.NAME if way == "flat" else way,
        "dtype": precision.storage,
    }
    if config.quantization in {"4bit", "8bit"}:
        _require_bitsandbytes(config.quantization)
        options["quantization_config"] = quantization(config.quantization, precision.compute)
        options["device_map"] = {"": device}
    try:
        model = AutoModelForCausalLM.from_pretrained(
            folder, local_files_only=True, trust_remote_code=False, **options
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise UsageError(
            f"the checkpoint cannot be loaded: {str(error).strip().splitlines()[0]}",
            where=str(folder),
            fix="Is the download complete, and do config.json and the weights belong together?",
        ) from error
    assert isinstance(model, PreTrainedModel)
    model.config.use_cache = False
    if config.use_liger:
        _apply_liger(model)
    return model


def _apply_liger(model: PreTrainedModel) -> None:
    """Put Liger's kernels into a loaded model; the loss stays ours, which is chunked already."""
    from liger_kernel.transformers import _apply_liger_kernel_to_instance

    _apply_liger_kernel_to_instance(
        model=model, cross_entropy=False, fused_linear_cross_entropy=False
    )


def quantization(bits: str, compute: torch.dtype) -> BitsAndBytesConfig:
    """bitsandbytes settings: nf4 with double quantization (arXiv 2305.14314), or LLM.int8."""
    if bits == "8bit":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True,
        bnb_4bit_quant_type="nf4",
        bnb_4bit_use_double_quant=True,
        bnb_4bit_compute_dtype=compute,
    )


def _require_bitsandbytes(bits: str) -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UsageError(
            f"quantization={bits} needs bitsandbytes, which is not installed",
            where="quantization",
            fix="Install it with `pip install bitsandbytes`, or set peft_type=lora and "
            "quantization=null.",
        )


def add_adapters(
    model: PreTrainedModel, config: TrainConfig, base: Path, *, train_tokens: Sequence[str] = ()
) -> PeftModel:
    """Freeze ``model`` and put LoRA adapters on it; they are what is trained.

    ``base`` is recorded in the adapter as the checkpoint it belongs to. ``train_tokens`` are
    tokens that are new to the model: with any, embeddings and head are trained as well.
    """
    whole = list(config.modules_to_save)
    tied = bool(getattr(model.config, "tie_word_embeddings", False))
    if train_tokens:
        ends = [model.get_input_embeddings()] + ([] if tied else [model.get_output_embeddings()])
        names = {id(module): path.rpartition(".")[2] for path, module in model.named_modules()}
        whole += [names[id(end)] for end in ends if names[id(end)] not in whole]
    family = detect_family(read_model_config(base))
    for parameter in model.parameters():
        parameter.requires_grad_(False)
    lora = LoraConfig(
        r=config.lora_rank,
        lora_alpha=config.lora_alpha,  # type: ignore[arg-type]  # any number works
        lora_dropout=config.lora_dropout,
        target_modules=lora_targets(model, config, family),
        modules_to_save=whole or None,
        ensure_weight_tying=tied and bool(whole),
        use_rslora=config.use_rslora,
        use_dora=config.use_dora,
        bias="none",
        task_type="CAUSAL_LM",
        base_model_name_or_path=str(base),
    )
    adapted = get_peft_model(model, lora)
    adapted.peft_config["default"].base_model_name_or_path = str(base)
    assert isinstance(adapted, PeftModel)
    return adapted


def lora_targets(model: nn.Module, config: TrainConfig, family: Family) -> list[str]:
    """Names of the modules that get adapters.

    Raises ``UsageError`` with the names that exist when one matches nothing.
    """
    linear = linear_names(model)
    if config.lora_targets == "all-linear":
        return sorted(linear)
    if config.lora_targets == "family":
        return [name for name in family.lora_targets if name in linear]
    for name in [*config.lora_targets, *config.modules_to_save]:
        whole = name in config.modules_to_save
        if not any(
            path == name or path.endswith(f".{name}")
            for path, module in model.named_modules()
            if whole or _is_linear(module)
        ):
            raise UsageError(
                f"no {'module' if whole else 'linear layer'} of this model is called {name!r}",
                where="modules_to_save" if whole else "lora_targets",
                fix=f"It has {', '.join(sorted(linear))}.",
            )
    return list(config.lora_targets)


def linear_names(model: nn.Module) -> set[str]:
    """Last names of the model's linear layers, the output head left out."""
    head = model.get_output_embeddings() if isinstance(model, PreTrainedModel) else None
    return {
        path.rpartition(".")[2]
        for path, module in model.named_modules()
        if _is_linear(module) and module is not head
    }


def _is_linear(module: nn.Module) -> bool:
    # bitsandbytes' layers are subclasses of Linear.
    return isinstance(module, nn.Linear | Conv1D)
