"""A checkpoint and its tokenizer, ready to generate, and those of its settings that count."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import msgspec
import psutil
import torch
from tokenizers import Tokenizer
from transformers import AutoModelForCausalLM, AutoTokenizer

from runners.config import GenerateConfig
from runners.errors import MissingInputError, UsageError
from runners.generate.native import native_folder
from runners.models.load import quantization

CHAT_END = "<|im_end|>"

_CHANGES_GREEDY = (
    "no_repeat_ngram_size",
    "bad_words_ids",
    "suppress_tokens",
    "begin_suppress_tokens",
    "min_length",
    "min_new_tokens",
    "forced_bos_token_id",
    "forced_eos_token_id",
    "sequence_bias",
)
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16, "fp32": torch.float32}


@dataclass(frozen=True)
class Loaded:
    """A model in eval mode on its device, and what its own generation settings ask for.

    ``ignored`` names settings that would change greedy output and are not applied.
    """

    model: Any
    repetition_penalty: float
    ignored: tuple[str, ...]


def load_tokenizer(config: GenerateConfig, told: Callable[[str], None] = lambda _text: None) -> Any:
    """The tokenizer of the model, or of the adapter where it brings one.

    A first-generation checkpoint is converted here, which ``told`` hears of. Raises
    ``MissingInputError`` when there is no tokenizer.
    """
    base, adapter = _places(config, told)
    for place in (adapter, base):
        if place is None or (Path(place).is_dir() and not _has_tokenizer(Path(place))):
            continue
        try:
            return AutoTokenizer.from_pretrained(place)
        except (OSError, ValueError, KeyError) as error:
            raise MissingInputError(
                f"the tokenizer cannot be loaded ({_first_line(error)})",
                where=place,
                fix="Name a checkpoint folder with tokenizer files, or a model of the hub.",
            ) from error
    raise MissingInputError(
        "there is no tokenizer here", where=base, fix="Copy the tokenizer files beside the model."
    )


def splits_otherwise(tokenizer: Any, texts: Sequence[str]) -> bool:
    """Whether a loaded tokenizer gives other ids than the tokenizer.json it was loaded from.

    transformers picks a class by the checkpoint's architecture, and that class may bring a way of
    splitting text of its own. Training reads the file, so the two must agree. False when there is
    no such file to compare with.
    """
    file = Path(tokenizer.name_or_path) / "tokenizer.json"
    if not file.is_file():
        return False
    as_written = Tokenizer.from_file(str(file))
    as_written.no_truncation()
    as_written.no_padding()
    return any(
        as_written.encode(text, add_special_tokens=False).ids
        != tokenizer(text, add_special_tokens=False)["input_ids"]
        for text in texts
    )


def end_token(tokenizer: Any, asked: str | None) -> tuple[str, int]:
    """The end token's text and number: the one asked for, else the chat one, else its own.

    Raises ``UsageError`` when the tokenizer does not have it.
    """
    vocabulary = tokenizer.get_vocab()
    text = asked or (CHAT_END if CHAT_END in vocabulary else tokenizer.eos_token)
    if text is None or text not in vocabulary:
        problem = f"has no end token {text!r}" if text else "names no end token"
        raise UsageError(
            f"the tokenizer {problem}, so no completion would ever end",
            where="eos_token",
            fix=f"Name one it has with --eos-token ({_candidates(tokenizer)}).",
        )
    return str(text), int(vocabulary[text])


def base_end_token(tokenizer: Any, chosen: str) -> str | None:
    """The tokenizer's own end token, if the chat one was chosen over it; else None.

    Base models of the Qwen family have the chat token in their vocabulary and never write it.
    """
    own = tokenizer.eos_token
    return str(own) if chosen == CHAT_END and own not in (None, CHAT_END) else None


def load_model(config: GenerateConfig, tokenizer: Any, device: torch.device) -> Loaded:
    """Load the model that a config names; an adapter is loaded on its base.

    Raises ``MissingInputError`` when there is no such checkpoint and ``UsageError`` for one that
    cannot be loaded.
    """
    base, adapter = _places(config)
    try:
        model: Any = AutoModelForCausalLM.from_pretrained(base, **_options(config, device))
        if adapter is not None:
            from peft import PeftModel

            adapted = PeftModel.from_pretrained(model, adapter)
            # Quantized weights would lose by merging; the adapter's layers stay in the model then.
            merged = config.adapter_mode == "merged" and config.quantization is None
            model = adapted.merge_and_unload() if merged else adapted.get_base_model()
    except (OSError, ValueError, KeyError, RuntimeError, ImportError) as error:
        raise UsageError(
            f"the model cannot be loaded ({_first_line(error)})",
            where=adapter or base,
            fix="Name a complete checkpoint folder, or an adapter folder whose base is there.",
        ) from error
    if config.quantization is None:
        model = model.to(device)
    model.eval()
    settings = model.generation_config
    defaults = type(settings)()
    ignored = tuple(
        key
        for key in _CHANGES_GREEDY
        if getattr(settings, key, None) not in (None, 0, [], getattr(defaults, key, None))
    )
    if len(tokenizer) > (size := model.get_input_embeddings().weight.shape[0]):
        raise UsageError(
            f"the tokenizer has {len(tokenizer)} tokens and the model only {size}",
            where=base,
            fix="Use the tokenizer that belongs to the model.",
        )
    _require_positions(model, config.max_length, base)
    return Loaded(model, float(settings.repetition_penalty or 1.0), ignored)


def _require_positions(model: Any, max_length: int, where: str) -> None:
    """Raise ``UsageError`` if rows may outgrow positions that the model has learned one by one."""
    tables = [m for name, m in model.named_modules() if name.endswith(("wpe", "embed_positions"))]
    known = min((m.weight.shape[0] for m in tables if hasattr(m, "weight")), default=max_length)
    if known < max_length:
        raise UsageError(
            f"max_length is {max_length}, and the model knows {known} positions only",
            where=where,
            fix=f"Use --max-length {known}.",
        )


def rows_that_fit(model: Any, max_length: int, device: torch.device) -> int:
    """How many rows of ``max_length`` tokens the free memory holds, within what pays off.

    Counts keys and values of all layers and a few copies of the logits, and leaves half of what
    is free for activations.
    """
    shape = model.config.get_text_config()
    heads = getattr(shape, "num_key_value_heads", None) or shape.num_attention_heads
    size = getattr(shape, "head_dim", None) or shape.hidden_size // shape.num_attention_heads
    width = torch.finfo(model.dtype).bits // 8
    cache = 2 * shape.num_hidden_layers * heads * size * width * max_length
    row = cache + 4 * 4 * shape.vocab_size
    if device.type == "cuda":
        free, most = torch.cuda.mem_get_info(device)[0], 256
    else:
        # Beyond this the arithmetic, not the weights, takes a CPU's time.
        free, most = psutil.virtual_memory().available, 64
    return int(max(1, min(most, free // 2 // row)))


def device_of(config: GenerateConfig, local_rank: int = 0) -> torch.device:
    """The device that a rank generates on."""
    if config.use_cpu or not torch.cuda.is_available():
        return torch.device("cpu")
    return torch.device("cuda", local_rank % torch.cuda.device_count())


def dtype_of(config: GenerateConfig, device: torch.device) -> torch.dtype:
    """The type that a config's weights are loaded in on a device."""
    if (named := _DTYPES.get(config.dtype)) is not None:
        return named
    if device.type != "cuda":
        return torch.float32
    return torch.bfloat16 if torch.cuda.is_bf16_supported() else torch.float16


def _options(config: GenerateConfig, device: torch.device) -> dict[str, Any]:
    dtype = dtype_of(config, device)
    options: dict[str, Any] = {"dtype": dtype}
    if config.quantization is not None:
        # As in training: an adapter is right only on the base that it was trained on.
        options["quantization_config"] = quantization(config.quantization, dtype)
        options["device_map"] = {"": device}
    return options


def _places(
    config: GenerateConfig, told: Callable[[str], None] = lambda _text: None
) -> tuple[str, str | None]:
    """Base and adapter; a model folder that is an adapter names its base itself."""
    assert config.model is not None
    model, adapter = config.model, config.adapter
    looks_local = model.startswith((".", "/", "~"))
    folder = Path(model).expanduser()
    if looks_local and not folder.is_dir():
        raise MissingInputError(
            "there is no such model folder", where=model, fix="Check the path of --model."
        )
    if adapter is not None and not (Path(adapter) / "adapter_config.json").is_file():
        raise MissingInputError(
            "this is no adapter folder: adapter_config.json is missing", where=adapter
        )
    if adapter is None and (folder / "adapter_config.json").is_file():
        described = msgspec.json.decode((folder / "adapter_config.json").read_bytes())
        base = described.get("base_model_name_or_path")
        if not base:
            raise UsageError(
                "the adapter does not name its base model",
                where=str(folder / "adapter_config.json"),
                fix="Give the base with --model and this folder with --adapter.",
            )
        return _native(str(base), told), str(folder)
    return _native(model, told), adapter


def _native(model: str, told: Callable[[str], None]) -> str:
    """A folder as transformers can load it; a hub name as it is."""
    folder = Path(model).expanduser()
    return str(native_folder(folder, told=told)) if folder.is_dir() else model


def _has_tokenizer(folder: Path) -> bool:
    names = ("tokenizer.json", "tokenizer.model", "vocab.json", "tokenizer_config.json")
    return any((folder / name).is_file() for name in names)


def _candidates(tokenizer: Any) -> str:
    special = [str(token) for token in tokenizer.all_special_tokens]
    return ", ".join(special) or "it has no special tokens"


def _first_line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:300]
