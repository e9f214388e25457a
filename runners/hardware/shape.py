"""A model's dimensions, read from its config.json alone: no weights, no model classes.

Separate because the estimate, the table of the documentation and the wizard all need the numbers of
a model that may not be downloaded yet. Families write the same facts under different names; here
they become one record. A first-generation format (Qwen v1, ChatGLM2, Baichuan) gets the dimensions
and module names of the native format that it is converted to when it is loaded.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Literal

from runners.errors import UsageError

Reads = Literal["attention_input", "attention_output", "mlp_input", "mlp_inner"]


@dataclass(frozen=True)
class Projection:
    """One linear layer of a transformer block; ``reads`` names the tensor that is its input."""

    name: str
    reads: Reads
    inputs: int
    outputs: int
    bias: bool

    @property
    def weights(self) -> int:
        """Entries of the matrix."""
        return self.inputs * self.outputs

    @property
    def parameters(self) -> int:
        """Entries of the matrix and of the bias."""
        return self.weights + (self.outputs if self.bias else 0)


@dataclass(frozen=True)
class ModelShape:
    """A decoder-only transformer in numbers.

    ``family`` is the native transformers type, ``source`` the type the checkpoint has on disk.
    ``positions`` counts learned position embeddings, 0 with rotary ones. ``gated`` marks the
    silu(gate) * up feed-forward, ``norm`` the normalisation, which has a bias when it is "layer".
    ``partial_rotary`` rotates a part of each head only, ``parallel`` computes attention and
    feed-forward from the same residual.
    The dropouts are the model's own, on the residual stream and on the attention weights.
    """

    family: str
    source: str
    layers: int
    hidden: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    projections: tuple[Projection, ...]
    norm: Literal["rms", "layer"]
    gated: bool
    tied: bool
    positions: int = 0
    qk_norm: bool = False
    partial_rotary: bool = False
    parallel: bool = False
    residual_dropout: float = 0.0
    attention_dropout: float = 0.0
    longest: int | None = None

    @property
    def query_width(self) -> int:
        """Width of all query heads together."""
        return self.heads * self.head_dim

    @property
    def kv_width(self) -> int:
        """Width of all key heads together."""
        return self.kv_heads * self.head_dim

    @property
    def fused_qkv(self) -> bool:
        """Whether one projection makes queries, keys and values."""
        return sum(projection.reads == "attention_input" for projection in self.projections) == 1

    @property
    def norm_parameters(self) -> int:
        """Parameters of one normalisation of the hidden width."""
        return self.hidden * (2 if self.norm == "layer" else 1)

    @property
    def layer_parameters(self) -> int:
        """Parameters of one block."""
        inner = 2 * self.head_dim if self.qk_norm else 0
        return (
            sum(projection.parameters for projection in self.projections)
            + 2 * self.norm_parameters
            + inner
        )

    @property
    def embedding_parameters(self) -> int:
        """Token and learned position embeddings."""
        return (self.vocab + self.positions) * self.hidden

    @property
    def head_parameters(self) -> int:
        """The output head, 0 when it is the token embedding."""
        return 0 if self.tied else self.vocab * self.hidden

    @property
    def parameters(self) -> int:
        """All parameters."""
        return (
            self.layers * self.layer_parameters
            + self.embedding_parameters
            + self.norm_parameters
            + self.head_parameters
        )

    @property
    def linear_weights(self) -> int:
        """Entries of the blocks' matrices: what a quantized base holds in 4 or 8 bits."""
        return self.layers * sum(projection.weights for projection in self.projections)


def read_shape(config: Mapping[str, Any]) -> ModelShape:
    """The shape that a config.json describes.

    Raises ``UsageError`` for a family we do not know and for a key that is missing or not a number.
    """
    model_type = str(config.get("model_type", ""))
    reader = _READERS.get(model_type)
    if reader is None:
        raise UsageError(
            f"the model type “{model_type}” is not one we know"
            if model_type
            else "the model's config.json has no model_type",
            where="config.json: model_type",
            fix=f"Known types: {', '.join(sorted(_READERS))}.",
        )
    try:
        return replace(reader(_Facts(config)), source=model_type)
    except (TypeError, ValueError, ZeroDivisionError) as error:
        raise UsageError(
            f"a value in the model's config.json cannot be used ({error})", where="config.json"
        ) from error


@dataclass(frozen=True)
class _Facts:
    """config.json with errors that name the key."""

    config: Mapping[str, Any]

    def count(self, key: str, default: int | None = None) -> int:
        value = self.config.get(key)
        if value is None:
            value = default
        if value is None:
            raise UsageError(
                f"the model's config.json lacks {key}",
                where=f"config.json: {key}",
                fix="Take the config.json that belongs to the checkpoint.",
            )
        if isinstance(value, bool) or not isinstance(value, int) or value < 0:
            raise UsageError(f"{key} must be a whole number, not {value!r}", where="config.json")
        return value

    def flag(self, key: str, default: bool) -> bool:
        return bool(self.config.get(key, default))

    def number(self, key: str, default: float = 0.0) -> float:
        return float(self.config.get(key) or default)


def _llama_like(
    facts: _Facts,
    family: str,
    *,
    qkv_bias: bool = False,
    output_bias: bool = False,
    mlp_bias: bool = False,
    qk_norm: bool = False,
    fused_gate: bool = False,
    head_dim_default: int | None = None,
) -> ModelShape:
    hidden, heads = facts.count("hidden_size"), facts.count("num_attention_heads")
    kv_heads = facts.count("num_key_value_heads", heads)
    head_dim = facts.count("head_dim", head_dim_default or hidden // max(1, heads))
    inner = facts.count("intermediate_size")
    rise: tuple[Projection, ...]
    if fused_gate:
        rise = (Projection("gate_up_proj", "mlp_input", hidden, 2 * inner, mlp_bias),)
    else:
        rise = (
            Projection("gate_proj", "mlp_input", hidden, inner, mlp_bias),
            Projection("up_proj", "mlp_input", hidden, inner, mlp_bias),
        )
    return ModelShape(
        family=family,
        source=family,
        layers=facts.count("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=inner,
        vocab=facts.count("vocab_size"),
        projections=(
            *_separate_qkv(hidden, heads * head_dim, kv_heads * head_dim, qkv_bias),
            Projection("o_proj", "attention_output", heads * head_dim, hidden, output_bias),
            *rise,
            Projection("down_proj", "mlp_inner", inner, hidden, mlp_bias),
        ),
        norm="rms",
        gated=True,
        tied=facts.flag("tie_word_embeddings", False),
        qk_norm=qk_norm,
        partial_rotary=fused_gate,  # GLM is the one with both
        attention_dropout=facts.number("attention_dropout"),
        longest=facts.count("max_position_embeddings", 0) or None,
    )


def _separate_qkv(hidden: int, query: int, kv: int, bias: bool) -> tuple[Projection, ...]:
    return (
        Projection("q_proj", "attention_input", hidden, query, bias),
        Projection("k_proj", "attention_input", hidden, kv, bias),
        Projection("v_proj", "attention_input", hidden, kv, bias),
    )


def _llama(facts: _Facts) -> ModelShape:
    bias = facts.flag("attention_bias", False)
    return _llama_like(
        facts,
        "llama",
        qkv_bias=bias,
        output_bias=bias,
        mlp_bias=facts.flag("mlp_bias", False),
    )


def _qwen3(facts: _Facts) -> ModelShape:
    bias = facts.flag("attention_bias", False)
    return _llama_like(
        facts, "qwen3", qkv_bias=bias, output_bias=bias, qk_norm=True, head_dim_default=128
    )


def _qwen_v1(facts: _Facts) -> ModelShape:
    native = {
        **facts.config,
        # Qwen v1 counts both halves of its gated feed-forward.
        "intermediate_size": facts.count("intermediate_size") // 2,
        "head_dim": facts.count("kv_channels", 0) or None,
        "num_key_value_heads": None,
        "attention_dropout": facts.number("attn_dropout_prob"),
    }
    return _llama_like(_Facts(native), "qwen2", qkv_bias=True)


def _chatglm2(facts: _Facts) -> ModelShape:
    heads = facts.count("num_attention_heads")
    grouped = facts.flag("multi_query_attention", False)
    native = {
        "num_hidden_layers": facts.count("num_layers"),
        "hidden_size": facts.count("hidden_size"),
        "num_attention_heads": heads,
        "num_key_value_heads": facts.count("multi_query_group_num") if grouped else heads,
        "head_dim": facts.count("kv_channels", 0) or None,
        "intermediate_size": facts.count("ffn_hidden_size"),
        "vocab_size": facts.count("padded_vocab_size"),
        "max_position_embeddings": facts.count("seq_length", 0),
        "attention_dropout": facts.number("attention_dropout"),
    }
    return _llama_like(
        _Facts(native), "glm", qkv_bias=facts.flag("add_qkv_bias", True), fused_gate=True
    )


def _gpt_neox(facts: _Facts) -> ModelShape:
    hidden, inner = facts.count("hidden_size"), facts.count("intermediate_size")
    heads = facts.count("num_attention_heads")
    bias = facts.flag("attention_bias", True)
    return ModelShape(
        family="gpt_neox",
        source="gpt_neox",
        layers=facts.count("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=heads,
        head_dim=hidden // heads,
        intermediate=inner,
        vocab=facts.count("vocab_size"),
        projections=(
            Projection("query_key_value", "attention_input", hidden, 3 * hidden, bias),
            Projection("dense", "attention_output", hidden, hidden, bias),
            Projection("dense_h_to_4h", "mlp_input", hidden, inner, True),
            Projection("dense_4h_to_h", "mlp_inner", inner, hidden, True),
        ),
        norm="layer",
        gated=False,
        tied=facts.flag("tie_word_embeddings", False),
        partial_rotary=_own(facts, "rotary_pct", 0.25) < 1,
        parallel=facts.flag("use_parallel_residual", True),
        residual_dropout=facts.number("hidden_dropout"),
        attention_dropout=facts.number("attention_dropout"),
        longest=facts.count("max_position_embeddings", 0) or None,
    )


def _gpt_bigcode(facts: _Facts) -> ModelShape:
    hidden, heads = facts.count("n_embd"), facts.count("n_head")
    inner = facts.count("n_inner", 4 * hidden)
    kv_heads = 1 if facts.flag("multi_query", True) else heads
    fused = hidden + 2 * kv_heads * (hidden // heads)
    return ModelShape(
        family="gpt_bigcode",
        source="gpt_bigcode",
        layers=facts.count("n_layer"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=hidden // heads,
        intermediate=inner,
        vocab=facts.count("vocab_size"),
        projections=(
            Projection("c_attn", "attention_input", hidden, fused, True),
            Projection("c_proj", "attention_output", hidden, hidden, True),
            Projection("c_fc", "mlp_input", hidden, inner, True),
            Projection("c_proj", "mlp_inner", inner, hidden, True),
        ),
        norm="layer",
        gated=False,
        tied=facts.flag("tie_word_embeddings", True),
        positions=facts.count("n_positions"),
        residual_dropout=_own(facts, "resid_pdrop", 0.1),
        attention_dropout=_own(facts, "attn_pdrop", 0.1),
        longest=facts.count("n_positions"),
    )


def _starcoder2(facts: _Facts) -> ModelShape:
    hidden, heads = facts.count("hidden_size"), facts.count("num_attention_heads")
    kv_heads, head_dim = facts.count("num_key_value_heads", heads), hidden // heads
    inner, bias = facts.count("intermediate_size"), facts.flag("use_bias", True)
    return ModelShape(
        family="starcoder2",
        source="starcoder2",
        layers=facts.count("num_hidden_layers"),
        hidden=hidden,
        heads=heads,
        kv_heads=kv_heads,
        head_dim=head_dim,
        intermediate=inner,
        vocab=facts.count("vocab_size"),
        projections=(
            *_separate_qkv(hidden, heads * head_dim, kv_heads * head_dim, bias),
            Projection("o_proj", "attention_output", heads * head_dim, hidden, bias),
            Projection("c_fc", "mlp_input", hidden, inner, bias),
            Projection("c_proj", "mlp_inner", inner, hidden, bias),
        ),
        norm="layer",
        gated=False,
        tied=facts.flag("tie_word_embeddings", True),
        residual_dropout=facts.number("residual_dropout"),
        attention_dropout=facts.number("attention_dropout"),
        longest=facts.count("max_position_embeddings", 0) or None,
    )


def _own(facts: _Facts, key: str, default: float) -> float:
    # 0 is a choice, absence is the family's default.
    return facts.number(key) if key in facts.config else default


_READERS: dict[str, Callable[[_Facts], ModelShape]] = {
    "llama": _llama,
    "mistral": lambda facts: _llama_like(facts, "mistral"),
    "qwen2": lambda facts: _llama_like(facts, "qwen2", qkv_bias=True),
    "qwen3": _qwen3,
    "glm": lambda facts: _llama_like(
        facts, "glm", qkv_bias=facts.flag("attention_bias", False), fused_gate=True
    ),
    "gpt_neox": _gpt_neox,
    "gpt_bigcode": _gpt_bigcode,
    "starcoder2": _starcoder2,
    "qwen": _qwen_v1,
    "chatglm": _chatglm2,
    "baichuan": lambda facts: _llama_like(facts, "llama"),
}
