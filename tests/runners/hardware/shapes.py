"""config.json contents that the tests estimate: real models written by hand, and tiny ones."""

from typing import Any

QWEN_1_8B = {
    "model_type": "qwen",
    "hidden_size": 2048,
    "intermediate_size": 11008,
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "kv_channels": 128,
    "vocab_size": 151936,
    "tie_word_embeddings": False,
    "attn_dropout_prob": 0.0,
}
QWEN25_7B = {
    "model_type": "qwen2",
    "hidden_size": 3584,
    "intermediate_size": 18944,
    "num_hidden_layers": 28,
    "num_attention_heads": 28,
    "num_key_value_heads": 4,
    "vocab_size": 152064,
    "tie_word_embeddings": False,
}
CODELLAMA_34B = {
    "model_type": "llama",
    "hidden_size": 8192,
    "intermediate_size": 22016,
    "num_hidden_layers": 48,
    "num_attention_heads": 64,
    "num_key_value_heads": 8,
    "vocab_size": 32000,
    "tie_word_embeddings": False,
}

_TINY = {
    "hidden_size": 128,
    "intermediate_size": 352,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "vocab_size": 2000,
    "bos_token_id": 0,
    "eos_token_id": 0,
    "pad_token_id": 0,
}
_GROUPED = {**_TINY, "num_key_value_heads": 2}
TINY: dict[str, dict[str, Any]] = {
    "qwen2": {"model_type": "qwen2", **_GROUPED},
    "qwen3": {"model_type": "qwen3", **_GROUPED, "head_dim": 32},
    "llama": {"model_type": "llama", **_TINY},
    "mistral": {"model_type": "mistral", **_GROUPED},
    "glm": {"model_type": "glm", **_GROUPED, "head_dim": 32, "attention_bias": True},
    "gpt_neox": {"model_type": "gpt_neox", **_TINY},
    "starcoder2": {"model_type": "starcoder2", **_GROUPED},
    "gpt_bigcode": {
        "model_type": "gpt_bigcode",
        "n_embd": 128,
        "n_head": 4,
        "n_layer": 4,
        "n_positions": 256,
        "vocab_size": 2000,
        "bos_token_id": 0,
        "eos_token_id": 0,
    },
}
