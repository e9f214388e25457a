"""The part of a training config that memory and time depend on, with every “auto” decided.

Separate from the formulas so that they read numbers and nothing else: which byte widths, how many
ranks, what is sharded. One recipe describes one rank.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from runners.config import TrainConfig
from runners.errors import UsageError
from runners.hardware.probe import Hardware
from runners.hardware.shape import ModelShape, Projection
from runners.models.families import detect_family


@dataclass(frozen=True)
class Precision:
    """Bytes an entry takes. ``optimizer`` counts AdamW's two moments and the float32 master copy
    where the weights themselves are narrower; ``adapter_input`` is the width at which an adapter
    keeps its inputs."""

    compute: int
    frozen: int
    trainable: int
    gradient: int
    optimizer: int
    adapter_input: int


SINGLE = Precision(compute=4, frozen=4, trainable=4, gradient=4, optimizer=8, adapter_input=4)
"""float32 throughout, the way of a CPU."""

DEEPSPEED_HALF = Precision(
    compute=2, frozen=2, trainable=2, gradient=2, optimizer=12, adapter_input=2
)
"""DeepSpeed in bf16 or fp16: the model in half width, master copy and moments in float32."""

AUTOCAST_HALF = Precision(
    compute=2, frozen=2, trainable=4, gradient=4, optimizer=8, adapter_input=4
)
"""torch autocast: what is trained stays in float32 and is its own master copy."""


@dataclass(frozen=True)
class Recipe:
    """What one rank does, in numbers.

    ``rows`` times ``length`` positions go through at once; ``trained_share`` of them are targets of
    the loss.
    """

    device: Literal["cuda", "cpu"]
    method: Literal["lora", "qlora", "full"]
    quantized_bits: Literal[4, 8] | None
    precision: Precision
    deepspeed: bool
    zero_stage: int
    offload_optimizer: bool
    offload_param: bool
    ranks: int
    ranks_here: int
    rows: int
    length: int
    accumulation: int
    attention: Literal["eager", "sdpa", "flash"]
    packed: bool
    checkpointing: Literal["off", "full", "selective"]
    lora_rank: int
    lora_dropout: float
    dora: bool
    targets: tuple[str, ...]
    modules_to_save: tuple[str, ...]
    trained_share: float = 1.0

    @property
    def tokens(self) -> int:
        """Positions of one micro-batch, padding included."""
        return self.rows * self.length

    def adapts(self, projection: Projection) -> bool:
        """Whether the projection gets an adapter."""
        return self.method != "full" and projection.name in self.targets


def make_recipe(
    config: TrainConfig, shape: ModelShape, hardware: Hardware, *, trained_share: float = 1.0
) -> Recipe:
    """Decide every “auto” of ``config`` for this machine.

    Raises ``UsageError`` when an adapter would land on nothing.
    """
    on_gpu = bool(hardware.usable) and not config.use_cpu
    here = ranks_on_this_machine(config, hardware)
    # On a CPU there is nothing for DeepSpeed to save unless it is asked for.
    deepspeed = config.deepspeed == "on" or (config.deepspeed == "auto" and on_gpu)
    half = config.mixed_precision in {"bf16", "fp16"} or (
        config.mixed_precision == "auto" and on_gpu
    )
    precision = (DEEPSPEED_HALF if deepspeed else AUTOCAST_HALF) if half else SINGLE
    bits: Literal[4, 8] | None = None
    if config.peft_type == "qlora":
        bits = 8 if config.quantization == "8bit" else 4
    attention = "sdpa" if config.attention == "auto" else config.attention
    return Recipe(
        device="cuda" if on_gpu else "cpu",
        method=config.peft_type,
        quantized_bits=bits,
        precision=precision,
        deepspeed=deepspeed,
        zero_stage=config.zero_stage if deepspeed else 0,
        offload_optimizer=deepspeed and config.offload_optimizer == "cpu",
        offload_param=deepspeed and config.offload_param == "cpu",
        ranks=here * config.num_machines,
        ranks_here=here,
        rows=config.per_device_train_batch_size,
        length=config.seq_length,
        accumulation=config.gradient_accumulation_steps,
        attention=attention,
        packed=config.padding_mode == "pack",
        checkpointing=config.gradient_checkpointing,
        lora_rank=config.lora_rank,
        lora_dropout=config.lora_dropout,
        dora=config.use_dora,
        targets=() if config.peft_type == "full" else lora_targets(config, shape),
        modules_to_save=tuple(config.modules_to_save) if config.peft_type != "full" else (),
        trained_share=trained_share,
    )


def ranks_on_this_machine(config: TrainConfig, hardware: Hardware) -> int:
    """How many processes train here: as asked, else one a GPU, else one."""
    if config.num_processes is not None:
        return config.num_processes
    if config.use_cpu or not hardware.usable:
        return 1
    return len(config.gpu_ids) or len(hardware.usable)


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
    if not found:
        raise UsageError(
            f"no module of this model is called {', '.join(wanted)}",
            where="lora_targets",
            fix=f"It has {', '.join(dict.fromkeys(names))}; or use all-linear.",
        )
    return found
