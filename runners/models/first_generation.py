"""First-generation checkpoints under their native names: Qwen v1, ChatGLM2 and Baichuan 7B.

Each was published with modelling code of its own, and each is an architecture that transformers
now has: Qwen v1 is Qwen2, ChatGLM2 is GLM, Baichuan is Llama (its ALiBi layout too, see ``alibi``).
So a checkpoint is renamed tensor by tensor, never run with code from its folder. These are pure
functions over a config and one named tensor at a time; reading and writing files is ``convert``'s.
"""

import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from runners.errors import UsageError
from runners.models.alibi import WidenedHeads
from runners.models.families import has_alibi

Named = Iterator[tuple[str, Tensor]]

_LAYER = re.compile(r"(?:.*\.)?(?:h|layers)\.(\d+)\.(.+)")
_QWEN_OUTER = {
    "transformer.wte.weight": "model.embed_tokens.weight",
    "transformer.ln_f.weight": "model.norm.weight",
    "lm_head.weight": "lm_head.weight",
}
_QWEN_LAYER = {
    "ln_1.weight": "input_layernorm.weight",
    "ln_2.weight": "post_attention_layernorm.weight",
    "attn.c_proj.weight": "self_attn.o_proj.weight",
    "mlp.w1.weight": "mlp.up_proj.weight",
    "mlp.w2.weight": "mlp.gate_proj.weight",
    "mlp.c_proj.weight": "mlp.down_proj.weight",
}
_GLM_OUTER = {
    "transformer.embedding.word_embeddings.weight": "model.embed_tokens.weight",
    "transformer.encoder.final_layernorm.weight": "model.norm.weight",
    "transformer.output_layer.weight": "lm_head.weight",
}
_GLM_LAYER = {
    "input_layernorm.weight": "input_layernorm.weight",
    "post_attention_layernorm.weight": "post_attention_layernorm.weight",
    "self_attention.dense.weight": "self_attn.o_proj.weight",
    "mlp.dense_h_to_4h.weight": "mlp.gate_up_proj.weight",
    "mlp.dense_4h_to_h.weight": "mlp.down_proj.weight",
}
_BAICHUAN2_VOCABULARY = 125_696


def native_config(config: Mapping[str, Any]) -> dict[str, Any]:
    """The native ``config.json`` of a first-generation one.

    Raises ``UsageError`` for variants whose mathematics the native architecture does not have.
    """
    return _CONFIGS[config["model_type"]](config)


def native_tensors(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Named:
    """Yield the native (name, tensor) pairs that one tensor of the checkpoint becomes.

    Buffers that the native model computes itself yield nothing. Raises ``UsageError`` for a tensor
    that the architecture does not have.
    """
    if name.endswith(("rotary_emb.inv_freq", "rotary_pos_emb.inv_freq")):
        return iter(())
    return _TENSORS[config["model_type"]](name, tensor, config)


def _qwen_config(config: Mapping[str, Any]) -> dict[str, Any]:
    if not config.get("no_bias", True):
        raise UsageError("Qwen v1 with no_bias=false has biases that Qwen2 lacks", where="no_bias")
    return {
        "architectures": ["Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "hidden_act": "silu",
        "hidden_size": config["hidden_size"],
        # The two halves w1 and w2 are counted together there.
        "intermediate_size": config["intermediate_size"] // 2,
        "initializer_range": config.get("initializer_range", 0.02),
        "max_position_embeddings": config.get(
            "seq_length", config.get("max_position_embeddings", 8192)
        ),
        "num_attention_heads": config["num_attention_heads"],
        "num_key_value_heads": config["num_attention_heads"],
        "num_hidden_layers": config["num_hidden_layers"],
        "rms_norm_eps": config["layer_norm_epsilon"],
        "rope_theta": float(config.get("rotary_emb_base", 10000)),
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "use_cache": True,
        "vocab_size": config["vocab_size"],
        "torch_dtype": _dtype(config),
    }


def _qwen_tensors(name: str, tensor: Tensor, _config: Mapping[str, Any]) -> Named:
    if outer := _QWEN_OUTER.get(name):
        yield outer, tensor
        return
    layer, inner = _split(name)
    if inner in {"attn.c_attn.weight", "attn.c_attn.bias"}:
        kind = inner.rpartition(".")[2]
        for which, part in zip("qkv", tensor.chunk(3), strict=True):
            yield f"{layer}.self_attn.{which}_proj.{kind}", part.contiguous()
        return
    yield f"{layer}.{_known(_QWEN_LAYER, inner, name)}", tensor


def _glm_config(config: Mapping[str, Any]) -> dict[str, Any]:
    for key, needed in (
        ("rmsnorm", True),
        ("post_layer_norm", True),
        ("add_bias_linear", False),
        ("apply_residual_connection_post_layernorm", False),
    ):
        if bool(config.get(key, needed)) is not needed:
            raise UsageError(
                f"this ChatGLM has {key}={config[key]}, which the GLM architecture does not",
                where=f"config.json: {key}",
                fix="ChatGLM2-6B, ChatGLM3-6B and models trained from them convert.",
            )
    heads = config["num_attention_heads"]
    grouped = config.get("multi_query_attention", False)
    length = config.get("seq_length", 32768)
    return {
        "architectures": ["GlmForCausalLM"],
        "model_type": "glm",
        "attention_bias": bool(config.get("add_qkv_bias", False)),
        "attention_dropout": config.get("attention_dropout", 0.0),
        "head_dim": config["kv_channels"],
        "hidden_act": "silu",
        "hidden_size": config["hidden_size"],
        "intermediate_size": config["ffn_hidden_size"],
        "max_position_embeddings": length,
        "num_attention_heads": heads,
        "num_key_value_heads": config["multi_query_group_num"] if grouped else heads,
        "num_hidden_layers": config["num_layers"],
        "rms_norm_eps": config["layernorm_epsilon"],
        "rope_theta": 10000.0 * float(config.get("rope_ratio", 1)),
        "partial_rotary_factor": 0.5,
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "use_cache": True,
        "vocab_size": config["padded_vocab_size"],
        "pad_token_id": config.get("pad_token_id", 0),
        "eos_token_id": config.get("eos_token_id", 2),
        "bos_token_id": config.get("bos_token_id", 1),
        "torch_dtype": _dtype(config),
    }


def _glm_tensors(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Named:
    if outer := _GLM_OUTER.get(name):
        yield outer, tensor
        return
    layer, inner = _split(name)
    if inner.startswith("self_attention.query_key_value."):
        kind = inner.rpartition(".")[2]
        heads, width = config["num_attention_heads"], config["kv_channels"]
        groups = config["multi_query_group_num"] if config.get("multi_query_attention") else heads
        sizes = [heads * width, groups * width, groups * width]
        for which, part in zip("qkv", torch.split(tensor, sizes), strict=True):
            yield f"{layer}.self_attn.{which}_proj.{kind}", part.contiguous()
        return
    yield f"{layer}.{_known(_GLM_LAYER, inner, name)}", tensor


def _baichuan_config(config: Mapping[str, Any]) -> dict[str, Any]:
    native = {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": config.get("hidden_act", "silu"),
        "hidden_size": config["hidden_size"],
        "initializer_range": config.get("initializer_range", 0.02),
        "intermediate_size": config["intermediate_size"],
        "num_attention_heads": config["num_attention_heads"],
        "num_key_value_heads": config["num_attention_heads"],
        "num_hidden_layers": config["num_hidden_layers"],
        "rms_norm_eps": config["rms_norm_eps"],
        "tie_word_embeddings": bool(config.get("tie_word_embeddings", False)),
        "use_cache": True,
        "vocab_size": config["vocab_size"],
        "pad_token_id": config.get("pad_token_id"),
        "bos_token_id": config.get("bos_token_id", 1),
        "eos_token_id": config.get("eos_token_id", 2),
        "torch_dtype": _dtype(config),
    }
    if heads := _baichuan_alibi(config):
        length = config.get("model_max_length", 4096)
        return native | {
            "attention_bias": True,
            "head_dim": heads.wide,
            "max_position_embeddings": length,
            "rope_parameters": heads.rope(length),
            # See ``alibi``: a narrower type would blur the positions.
            "torch_dtype": "float32",
        }
    return native | {
        "max_position_embeddings": config.get("max_position_embeddings", 4096),
        "rope_theta": float(config.get("rope_theta", 10000)),
    }


def _baichuan_alibi(config: Mapping[str, Any]) -> WidenedHeads | None:
    """The heads of the ALiBi layout; None for the rotary one."""
    if not has_alibi(config):
        return None
    heads = config["num_attention_heads"]
    return WidenedHeads(heads, config["hidden_size"] // heads)


def _baichuan_tensors(name: str, tensor: Tensor, config: Mapping[str, Any]) -> Named:
    alibi = _baichuan_alibi(config)
    if alibi:
        tensor = tensor.float()
    attention, _, inner = name.partition(".self_attn.")
    if inner == "W_pack.weight":
        q, k, v = tensor.chunk(3)
        if alibi:
            q, k, v = alibi.rows(q) * alibi.query_gain, alibi.rows(k), alibi.rows(v)
            yield f"{attention}.self_attn.q_proj.bias", alibi.query_bias(q)
            yield f"{attention}.self_attn.k_proj.bias", alibi.key_bias(k)
            yield f"{attention}.self_attn.v_proj.bias", torch.zeros_like(v[:, 0])
        for which, part in zip("qkv", (q, k, v), strict=True):
            yield f"{attention}.self_attn.{which}_proj.weight", part.contiguous()
    elif inner == "o_proj.weight" and alibi:
        yield name, alibi.columns(tensor)
        yield f"{attention}.self_attn.o_proj.bias", torch.zeros_like(tensor[:, 0])
    elif name == "lm_head.weight" and config["vocab_size"] == _BAICHUAN2_VOCABULARY:
        # Baichuan 2 normalizes the rows of its head at run time; once is enough.
        yield name, torch.nn.functional.normalize(tensor.float()).to(tensor.dtype)
    else:
        yield name, tensor


def _split(name: str) -> tuple[str, str]:
    if match := _LAYER.fullmatch(name):
        return f"model.layers.{match[1]}", match[2]
    raise _unknown(name)


def _known(names: Mapping[str, str], inner: str, name: str) -> str:
    try:
        return names[inner]
    except KeyError:
        raise _unknown(name) from None


def _unknown(name: str) -> UsageError:
    return UsageError(
        f"the checkpoint holds a tensor that its architecture does not have: {name}",
        fix="Is it an adapter, or a quantized (GPTQ, AWQ, int4) checkpoint? Those do not convert.",
    )


def _dtype(config: Mapping[str, Any]) -> str:
    if named := config.get("torch_dtype", config.get("dtype")):
        return str(named)
    return "bfloat16" if config.get("bf16") else "float16" if config.get("fp16") else "float32"


_CONFIGS: dict[str, Callable[[Mapping[str, Any]], dict[str, Any]]] = {
    "qwen": _qwen_config,
    "chatglm": _glm_config,
    "baichuan": _baichuan_config,
}
_TENSORS: dict[str, Callable[[str, Tensor, Mapping[str, Any]], Named]] = {
    "qwen": _qwen_tensors,
    "chatglm": _glm_tensors,
    "baichuan": _baichuan_tensors,
}
