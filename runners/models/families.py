"""The model families: how a checkpoint is recognized, and what is particular about each.

Separate from loading because nothing here needs torch: the checks before a launch, the estimate and
the wizard ask the same questions of a ``config.json``.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runners.errors import MissingInputError, UsageError


@dataclass(frozen=True)
class Family:
    """One family of checkpoints.

    ``native`` is the transformers model type that runs it; it differs from ``model_types`` for
    first-generation formats, which are converted on load. ``lora_targets`` are module names of the
    native model.
    """

    name: str
    model_types: tuple[str, ...]
    native: str
    lora_targets: tuple[str, ...]
    eos: str
    pad: str

    @property
    def first_generation(self) -> bool:
        """True when the checkpoint needs conversion before transformers can run it."""
        return self.native not in self.model_types


_ATTENTION_AND_GATED_MLP = (
    "q_proj",
    "k_proj",
    "v_proj",
    "o_proj",
    "gate_proj",
    "up_proj",
    "down_proj",
)
# Without k_proj, as in the reference's table for the llama family.
_LLAMA = ("q_proj", "v_proj", "o_proj", "gate_proj", "down_proj", "up_proj")
_GLM = ("q_proj", "k_proj", "v_proj", "o_proj", "gate_up_proj", "down_proj")
_NEOX = ("query_key_value", "dense", "dense_h_to_4h", "dense_4h_to_h")
_BIGCODE = ("c_proj", "c_attn", "q_attn", "c_fc")
_STARCODER2 = ("q_proj", "k_proj", "v_proj", "o_proj", "c_fc", "c_proj")
_CHATML_END = "<|im_end|>"
_END = "<|endoftext|>"

FAMILIES: tuple[Family, ...] = (
    Family("qwen2", ("qwen2",), "qwen2", _ATTENTION_AND_GATED_MLP, _CHATML_END, _END),
    Family("qwen3", ("qwen3",), "qwen3", _ATTENTION_AND_GATED_MLP, _CHATML_END, _END),
    Family("llama", ("llama",), "llama", _LLAMA, "</s>", "<unk>"),
    Family("mistral", ("mistral",), "mistral", _LLAMA, "</s>", "<unk>"),
    Family("starcoder", ("gpt_bigcode",), "gpt_bigcode", _BIGCODE, _END, "<fim_pad>"),
    Family("starcoder2", ("starcoder2",), "starcoder2", _STARCODER2, _END, _END),
    Family("gpt_neox", ("gpt_neox",), "gpt_neox", _NEOX, _END, _END),
    Family("glm", ("glm",), "glm", _GLM, _END, _END),
    Family("qwen", ("qwen",), "qwen2", _ATTENTION_AND_GATED_MLP, _CHATML_END, _CHATML_END),
    Family("chatglm2", ("chatglm",), "glm", _GLM, "</s>", "<unk>"),
    # W_pack holds q, k and v, so all three get adapters once it is taken apart.
    Family("baichuan", ("baichuan",), "llama", _ATTENTION_AND_GATED_MLP, "</s>", "<unk>"),
)

_BY_MODEL_TYPE = {kind: family for family in FAMILIES for kind in family.model_types}
# What people call them, and the family whose code runs them.
_SAME_ARCHITECTURE = {"code_llama": "llama", "deepseek_coder": "llama"}

ALIBI_STILL = 1e30
"""Divisor of a rotary frequency that makes it stand still: all but those of an ALiBi pair."""

_INDEXES = ("model.safetensors.index.json", "pytorch_model.bin.index.json")
_SINGLE = ("model.safetensors", "pytorch_model.bin")


def read_model_config(folder: Path) -> dict[str, Any]:
    """Read ``config.json`` of a checkpoint folder.

    Raises ``MissingInputError`` when the folder or the file is not there, ``UsageError`` when the
    file is no JSON object.
    """
    if not folder.is_dir():
        raise MissingInputError(
            "there is no such model folder",
            where=str(folder),
            fix="Set pretrained_model_path to a checkpoint folder or a hub name such as org/model.",
        )
    path = folder / "config.json"
    if not path.is_file():
        raise MissingInputError(
            "the model folder has no config.json",
            where=str(folder),
            fix="Point pretrained_model_path at the folder that holds config.json and the weights.",
        )
    try:
        config = json.loads(path.read_bytes())
    except ValueError as error:
        raise UsageError(
            f"this is not JSON ({error})", where=str(path), fix="Download the file again."
        ) from error
    if not isinstance(config, dict):
        raise UsageError("this is not a JSON object", where=str(path))
    return config


def weight_files(folder: Path) -> list[Path]:
    """The weight files of a checkpoint folder: those its index names, or the single one.

    Raises ``MissingInputError`` when there are none, or when one that the index names is missing.
    """
    for index in _INDEXES:
        if (folder / index).is_file():
            named = json.loads((folder / index).read_bytes())["weight_map"].values()
            files = [folder / name for name in sorted(set(named))]
            if missing := [path.name for path in files if not path.is_file()]:
                raise MissingInputError(
                    f"{len(missing)} of {len(files)} weight files are missing, {missing[0]} first",
                    where=str(folder),
                    fix="Download the checkpoint again.",
                )
            return files
    for name in _SINGLE:
        if (folder / name).is_file():
            return [folder / name]
    raise MissingInputError(
        "the model folder has a config.json but no weights",
        where=str(folder),
        fix="It needs model.safetensors (or pytorch_model.bin), or shards with their index.",
    )


def require_first_generation(family: Family, folder: Path) -> None:
    """Raise ``UsageError`` for a checkpoint that transformers reads as it is."""
    if not family.first_generation:
        raise UsageError(
            f"this checkpoint is {family.name}, which transformers reads as it is",
            where=str(folder),
            fix="Use it directly; only Qwen v1, ChatGLM2 and Baichuan need converting.",
        )


def has_alibi(config: Mapping[str, Any]) -> bool:
    """Whether a Baichuan, or what it was converted to, has ALiBi positions and not rotary ones.

    Baichuan's 7B models are rotary, its 13B models are not. Only the rotary configs say how many
    positions there are; the first 7B's class is spelled otherwise too.
    """
    if config.get("model_type") != "baichuan":
        rope = config.get("rope_parameters") or {}
        return bool(rope) and ALIBI_STILL in rope.get("long_factor", ())
    rotary_class = "BaiChuanForCausalLM" in config.get("architectures", ())
    return not rotary_class and "max_position_embeddings" not in config


def require_alibi_trainable(config: Mapping[str, Any], *, precision: str, dora: bool) -> None:
    """Raise ``UsageError`` for what a model with ALiBi positions cannot be trained with.

    Written as rotary ones its positions are differences of large products: in bfloat16 a bias is
    off by several units within a few tokens. And DoRA divides by the lengths of rows, some of which
    are zero. ``precision`` is accelerate's name.
    """
    if not has_alibi(config):
        return
    if precision != "no":
        raise UsageError(
            f"this model's ALiBi positions need float32, and {precision} was asked for",
            where="mixed_precision",
            fix="Set mixed_precision=no.",
        )
    if dora:
        raise UsageError(
            "DoRA cannot adapt a model with ALiBi positions",
            where="use_dora",
            fix="Set use_dora=false.",
        )


def module_names(folder: Path) -> set[str]:
    """Last names of the modules that a checkpoint has weights of; empty where only pickles say.

    Reads the headers of safetensors files, no tensors.
    """
    names: set[str] = set()
    for path in weight_files(folder):
        if path.suffix != ".safetensors":
            return set()
        with path.open("rb") as file:
            size = int.from_bytes(file.read(8), "little")
            try:
                header = json.loads(file.read(size))
            except ValueError as error:
                raise UsageError(
                    "this is no safetensors file",
                    where=str(path),
                    fix="Download the checkpoint again.",
                ) from error
        tensors = (name for name in header if name != "__metadata__")
        names |= {part for name in tensors for part in name.split(".")[:-1]}
    return {name for name in names if not name.isdigit()}


def detect_family(config: Mapping[str, Any], *, asked: str | None = None) -> Family:
    """The family of a checkpoint from its ``config.json``; ``asked`` must agree with it.

    Raises ``UsageError`` for an architecture that no family runs, or when ``asked`` names another.
    """
    kind = config.get("model_type")
    family = _BY_MODEL_TYPE.get(str(kind))
    if family is None:
        known = ", ".join(sorted(_BY_MODEL_TYPE))
        raise UsageError(
            f"model_type {kind!r} is not one that can be trained here",
            where="config.json: model_type",
            fix=f"Known are {known}.",
        )
    if asked is not None and _SAME_ARCHITECTURE.get(asked, asked) != family.name:
        raise UsageError(
            f"model_type={asked} was asked for, but the checkpoint is {family.name} ({kind})",
            where="model_type",
            fix="Leave model_type out: it is read from the checkpoint.",
        )
    return family
