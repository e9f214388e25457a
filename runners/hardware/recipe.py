"""The part of a training config that memory and time depend on, with every “auto” decided.

Separate from the formulas so that they read numbers and nothing else: which byte widths, how many
ranks, what is sharded. One recipe describes one rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from runners.config import TrainConfig
from runners.config.launch_line import Layout, layout
from runners.config.tokenizer_check import gains_markers
from runners.errors import UsageError
from runners.hardware.probe import Hardware
from runners.hardware.shape import ModelShape, Projection
from runners.models.families import detect_family


@dataclass(frozen=True)
class Precision:
    """Bytes an entry takes.

    ``compute`` is the type of the matrix products, ``residual`` that of the stream between blocks.
    ``optimizer`` counts AdamW's two moments and the float32 master copy where the weights
    themselves are narrower. ``cast_weights`` is what autocast adds while it holds a narrow copy of
    a trained weight; ``recast_inputs`` says that every adapter keeps an input of its own because it
    is cast for it.
    """

    compute: int
    residual: int
    frozen: int
    trainable: int
    gradient: int
    optimizer: int
    cast_weights: int = 0
    recast_inputs: bool = False


SINGLE = Precision(compute=4, residual=4, frozen=4, trainable=4, gradient=4, optimizer=8)
"""float32 throughout, the way of a CPU."""

DEEPSPEED_HALF = Precision(compute=2, residual=2, frozen=2, trainable=2, gradient=2, optimizer=12)
"""DeepSpeed in bf16 or fp16: the model in half width, master copy and moments in float32."""

AUTOCAST_HALF = Precision(
    compute=2,
    residual=2,
    frozen=2,
    trainable=4,
    gradient=4,
    optimizer=8,
    cast_weights=2,
    recast_inputs=True,
)
"""torch autocast over adapters: what is trained stays in float32 and is its own master copy."""


@dataclass(frozen=True)
class Recipe:
    """What one rank does, in numbers.

    ``rows`` times ``length`` positions go through at once; ``trained_share`` of them are targets of
    the loss, and ``segment`` is the mean length of what attends to itself, a row's at most.
    ``attention`` is "flat" where rows are laid end to end and segments attend to
    themselves, else the padded rows' mask is applied. ``bucket`` counts the bytes that
    DeepSpeed's gradient buckets hold for an entry.
    """

    device: Literal["cuda", "cpu"]
    method: Literal["lora", "qlora", "full"]
    quantized_bits: Literal[4, 8] | None
    precision: Precision
    deepspeed: bool
    zero_stage: int
    offload_optimizer: bool
    offload_param: bool
    bucket: int
    ranks: int
    ranks_here: int
    rows: int
    length: int
    accumulation: int
    attention: Literal["flat", "sdpa", "eager"]
    checkpointing: Literal["off", "full", "selective"]
    lora_rank: int
    lora_dropout: float
    dora: bool
    targets: tuple[str, ...]
    modules_to_save: tuple[str, ...]
    trained_share: float = 1.0
    segment: float = float("inf")

    @property
    def tokens(self) -> int:
        """Positions of one micro-batch, padding included."""
        return self.rows * self.length

    def adapts(self, projection: Projection) -> bool:
        """Whether the projection gets an adapter."""
        return self.method != "full" and projection.name in self.targets


def make_recipe(
    config: TrainConfig,
    shape: ModelShape,
    hardware: Hardware,
    *,
    trained_share: float = 1.0,
    segment: float = float("inf"),
) -> Recipe:
    """Decide every “auto” of ``config`` for this machine.

    Raises ``UsageError`` when an adapter would land on nothing.
    """
    spread = layout(config, hardware)
    ranks = spread.ranks * config.num_machines
    bits: Literal[4, 8] | None = None
    if config.peft_type == "qlora":
        bits = 8 if config.quantization == "8bit" else 4
    attention: Literal["flat", "sdpa", "eager"] = "flat"
    if config.attention in {"sdpa", "eager"}:
        attention = "sdpa" if config.attention == "sdpa" else "eager"
    return Recipe(
        device="cuda" if spread.on_gpu else "cpu",
        method=config.peft_type,
        quantized_bits=bits,
        precision=_precision(config, spread),
        deepspeed=spread.deepspeed,
        zero_stage=config.zero_stage if spread.deepspeed else 0,
        offload_optimizer=spread.deepspeed and config.offload_optimizer == "cpu",
        offload_param=spread.deepspeed and config.offload_param == "cpu",
        bucket=_bucket(config, spread),
        ranks=ranks,
        ranks_here=spread.ranks,
        rows=config.per_device_train_batch_size,
        length=config.seq_length,
        accumulation=spread.accumulation,
        attention=attention,
        checkpointing=config.gradient_checkpointing,
        lora_rank=config.lora_rank,
        lora_dropout=config.lora_dropout,
        dora=config.use_dora,
        targets=() if config.peft_type == "full" else lora_targets(config, shape),
        modules_to_save=_whole_modules(config, shape),
        trained_share=trained_share,
        segment=segment,
    )


def _whole_modules(config: TrainConfig, shape: ModelShape) -> tuple[str, ...]:
    """Modules that are trained in full beside the adapters: those asked for, and the embedding and
    the head where the tokenizer gets markers that the model has never seen."""
    if config.peft_type == "full":
        return ()
    whole = set(config.modules_to_save)
    if gains_markers(Path(config.pretrained_model_path).expanduser()):
        if whole.isdisjoint(EMBEDDINGS):
            whole.add("embed_tokens")
        if whole.isdisjoint(HEADS):
            whole.add("lm_head")
    if shape.tied and not whole.isdisjoint(EMBEDDINGS):
        whole -= HEADS  # the same table
    return tuple(sorted(whole))


def _precision(config: TrainConfig, spread: Layout) -> Precision:
    if spread.precision == "no":
        return SINGLE
    if spread.deepspeed:
        return DEEPSPEED_HALF
    if config.peft_type == "full":
        # The embedding is trained and so in float32, and with it the stream it begins.
        return replace(AUTOCAST_HALF, residual=4)
    return AUTOCAST_HALF


def _bucket(config: TrainConfig, spread: Layout) -> int:
    if not spread.deepspeed:
        return 0
    # Overlapping, as everywhere but on a CPU, fills one bucket while the other is sent.
    count = 2 if spread.precision != "no" and config.zero_stage < 3 else 1
    return (4 if spread.precision == "no" else 2) * count


HEADS = frozenset({"lm_head", "embed_out"})
"""Names of output heads: linear layers outside the blocks, which may be adapted too."""

EMBEDDINGS = frozenset({"embed_tokens", "embed_in", "wte"})
"""Names of token embeddings."""


def require_lora_targets(config: TrainConfig, shape: ModelShape) -> None:
    """Raise ``UsageError``, with the names that exist, for a target that matches no layer."""
    lora_targets(config, shape)
    if isinstance(config.lora_targets, str):
        return
    names = list(dict.fromkeys(projection.name for projection in shape.projections))
    for target in config.lora_targets:
        if target.rpartition(".")[2] not in {*names, *HEADS}:
            raise UsageError(
                f"no linear layer of this model is called {target!r}",
                where="lora_targets",
                fix=f"It has {', '.join(names)}; or use all-linear.",
            )


def lora_targets(config: TrainConfig, shape: ModelShape) -> tuple[str, ...]:
    """Names of the projections that get adapters."""
    names = [projection.name for projection in shape.projections]
    wanted: Sequence[str]
    if config.lora_targets == "all-linear":
        wanted = names
    elif config.lora_targets == "family":
        wanted = detect_family({"model_type": shape.source}).lora_targets
    else:
        wanted = [target.rpartition(".")[2] for target in config.lora_targets]
    found = tuple(dict.fromkeys(name for name in names if name in wanted))
    if not found and HEADS.isdisjoint(wanted):
        raise UsageError(
            f"no linear layer of this model is called {', '.join(map(repr, wanted))}",
            where="lora_targets",
            fix=f"It has {', '.join(dict.fromkeys(names))}; or use all-linear.",
        )
    return found
