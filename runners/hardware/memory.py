"""How many bytes one rank needs, part by part, from a shape and a recipe: formulas, no guessing.

What stays the whole time
    weights    every parameter at its width: 2 bytes in half precision, 4 in float32. A quantized
               base holds the blocks' matrices in 4 bits (plus one byte a group of 64 and one float
               in 256 groups: nf4 with double quantization, arXiv 2305.14314) or in 8 bits (plus a
               float a row); embeddings, head, biases and norms stay as they are. ZeRO-3 divides
               what is not quantized by the ranks (arXiv 1910.02054) and gathers two blocks at a
               time, or the embedding.
    adapters   r (in + out) for each adapted projection (arXiv 2106.09685).
    optimizer  AdamW's two float32 moments of what is trained, and a float32 master copy where the
               weights are narrower: 8 or 12 bytes an entry. ZeRO-1 and up divide it by the ranks;
               offloading moves it to the host.

What comes and goes within a step
    gradients  one entry for each trained one, divided by the ranks from ZeRO-2 on.
    activations  what the backward pass needs again, listed tensor by tensor in ``activations.py``.
               With gradient checkpointing only each block's input is kept, and one block is whole;
               the selective kind also keeps the results of matrix products.
    logits     the head is applied to trained positions only, a chunk at a time.

A step has three high tides: the loss (all activations and a chunk of logits), the backward pass
(activations, gradients and what flows back), and the optimizer step (all gradients and its
scratch). The highest is the peak; the parts that are reported are those of that moment.

Activations are those of a micro-batch of full rows: with padded data the fullest batch of a run,
and an upper bound. On a GPU the CUDA context, the allocator's rounding and the communication
buffers come on top. The constants for those are assumed, neither derived nor measured here; their
names begin with ``ASSUMED``.
"""

from dataclasses import dataclass, fields
from typing import Literal

from runners.config.launch_line import bucket_entries
from runners.hardware.activations import (
    block_activations,
    block_backward_scratch,
    block_products,
    loss_workspace,
    outside_activations,
    shared_inputs,
)
from runners.hardware.recipe import EMBEDDINGS, HEADS, Recipe
from runners.hardware.shape import ModelShape

GIB = 1 << 30

NF4_BYTES = 0.5 + 1 / 64 + 4 / (64 * 256)
"""Bytes a weight of an nf4 base: half a byte, a byte a group of 64, a float in 256 groups."""

ASSUMED_CUDA_CONTEXT = 600 << 20
"""CUDA context, cuBLAS and cuDNN workspaces of a process: 0.5 to 0.7 GiB on data-centre cards."""

ASSUMED_NCCL = 400 << 20
"""NCCL's channels and buffers once more than one rank talks."""

ASSUMED_FRAGMENTATION = 0.06
"""Share of the tensors' bytes that the caching allocator loses to rounding and holes."""


ZERO3_GROUP = 1_000_000_000
"""Entries of a rank's share that ZeRO-3 steps at a time, DeepSpeed's sub_group_size."""


@dataclass(frozen=True)
class Parts:
    """Bytes of one rank at one moment."""

    weights: int = 0
    adapters: int = 0
    gradients: int = 0
    optimizer: int = 0
    activations: int = 0
    logits: int = 0
    buffers: int = 0
    overhead: int = 0

    @property
    def tensors(self) -> int:
        """Bytes of tensors: all but the overhead, which torch does not count."""
        return sum(int(getattr(self, part.name)) for part in fields(self)) - self.overhead

    @property
    def total(self) -> int:
        """All bytes."""
        return self.tensors + self.overhead


Moment = Literal["loss", "backward", "optimizer"]


@dataclass(frozen=True)
class RankMemory:
    """The peak of one rank: its ``parts``, the ``moment`` it comes at, and what it puts on the
    host; ``trainable`` counts the trained parameters of the whole model."""

    parts: Parts
    moment: Moment
    host: int
    trainable: int


def adapter_parameters(shape: ModelShape, recipe: Recipe) -> int:
    """Entries of all adapters; DoRA adds a magnitude an output."""
    a_layer = sum(
        recipe.lora_rank * (projection.inputs + projection.outputs)
        + (projection.outputs if recipe.dora else 0)
        for projection in shape.projections
        if recipe.adapts(projection)
    )
    return shape.layers * a_layer


def saved_module_parameters(shape: ModelShape, recipe: Recipe) -> int:
    """Entries of the modules that are trained in full beside the adapters."""
    table = shape.vocab * shape.hidden
    return sum(table for name in recipe.modules_to_save if name in EMBEDDINGS | HEADS)


def trainable_parameters(shape: ModelShape, recipe: Recipe) -> int:
    """Entries that the optimizer changes."""
    if recipe.method == "full":
        return shape.parameters
    return adapter_parameters(shape, recipe) + saved_module_parameters(shape, recipe)


def rank_memory(shape: ModelShape, recipe: Recipe) -> RankMemory:
    """The peak of one rank of this recipe on a model of this shape."""
    trainable = trainable_parameters(shape, recipe)
    precision = recipe.precision
    base, adapters = _weights(shape, recipe, trainable)
    optimizer = trainable * precision.optimizer // _shards(recipe, 1)
    gradients = trainable * precision.gradient // _shards(recipe, 2)
    buffers = _buffers(shape, recipe, trainable)
    host = 0
    if recipe.offload_param:
        staying = _quantized(shape, recipe)
        host += (base - staying + adapters) * recipe.ranks_here
        base, adapters = staying, 0
    if recipe.offload_optimizer:
        host += (optimizer + trainable * 4 // _shards(recipe, 1)) * recipe.ranks_here
        optimizer = 0
    resident = Parts(weights=base, adapters=adapters, optimizer=optimizer, buffers=buffers)

    moments: list[tuple[Moment, Parts]] = [
        ("loss", _at_the_loss(resident, shape, recipe, gradients)),
        ("backward", _at_the_backward(resident, shape, recipe, gradients)),
        ("optimizer", _at_the_optimizer(resident, shape, recipe, gradients, trainable)),
    ]
    moment, parts = max(moments, key=lambda pair: pair[1].tensors)
    return RankMemory(
        parts=_with(parts, overhead=_overhead(parts, recipe)),
        moment=moment,
        host=host,
        trainable=trainable,
    )


def _with(parts: Parts, **more: int) -> Parts:
    values = {part.name: getattr(parts, part.name) for part in fields(parts)}
    return Parts(**{name: value + more.get(name, 0) for name, value in values.items()})


def _shards(recipe: Recipe, from_stage: int) -> int:
    return recipe.ranks if recipe.zero_stage >= from_stage else 1


def _weights(shape: ModelShape, recipe: Recipe, trainable: int) -> tuple[int, int]:
    precision, shards = recipe.precision, _shards(recipe, 3)
    # Learned positions come with a causal mask of theirs, a byte an entry.
    mask = shape.positions**2
    if recipe.method == "full":
        return shape.parameters * precision.trainable // shards + mask, 0
    adapters = trainable * precision.trainable // shards
    if recipe.quantized_bits is None:
        return shape.parameters * precision.frozen // shards + mask, adapters
    rest = (shape.parameters - shape.linear_weights) * precision.frozen // shards + mask
    return _quantized(shape, recipe) + rest, adapters


def _quantized(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes of the blocks' matrices in 4 or 8 bits; neither shared out nor offloaded."""
    if recipe.quantized_bits is None:
        return 0
    if recipe.quantized_bits == 4:
        return int(shape.linear_weights * NF4_BYTES)
    rows = shape.layers * sum(projection.outputs for projection in shape.projections)
    return shape.linear_weights + 4 * rows


def _at_the_loss(resident: Parts, shape: ModelShape, recipe: Recipe, gradients: int) -> Parts:
    return _with(
        resident,
        # Gradients of the micro-batches before; the first one starts with none.
        gradients=gradients if recipe.accumulation > 1 else 0,
        activations=_kept_activations(shape, recipe),
        logits=loss_workspace(shape, recipe),
    )


def _at_the_backward(resident: Parts, shape: ModelShape, recipe: Recipe, gradients: int) -> Parts:
    scratch = block_backward_scratch(shape, recipe)
    kept = _kept_activations(shape, recipe)
    if recipe.checkpointing != "off":
        kept += block_activations(shape, recipe)
    beginning = _with(
        resident,
        gradients=gradients if recipe.accumulation > 1 else 0,
        activations=kept + scratch,
    )
    one_block = block_activations(shape, recipe) + outside_activations(shape, recipe)
    end = _with(resident, gradients=gradients, activations=one_block + scratch)
    return max(beginning, end, key=lambda parts: parts.tensors)


def _at_the_optimizer(
    resident: Parts, shape: ModelShape, recipe: Recipe, gradients: int, trainable: int
) -> Parts:
    if recipe.offload_optimizer:
        scratch = 0
    elif recipe.deepspeed and recipe.precision.gradient < 4:
        # DeepSpeed widens its share of the gradients to float32 before it steps: all of it, or in
        # ZeRO-3 a group at a time.
        share = trainable // _shards(recipe, 1)
        scratch = 4 * (min(share, ZERO3_GROUP) if recipe.zero_stage == 3 else share)
    elif recipe.device == "cuda":
        scratch = 0  # the fused kernel updates in place
    else:
        scratch = 2 * 4 * _largest_trained(shape, recipe)
    return _with(resident, gradients=gradients, buffers=scratch)


def _largest_trained(shape: ModelShape, recipe: Recipe) -> int:
    """Entries of the largest trained tensor: the CPU steps one tensor at a time."""
    widest = [p for p in shape.projections if recipe.method == "full" or recipe.adapts(p)]
    if recipe.method == "full" or recipe.modules_to_save:
        return max(shape.vocab * shape.hidden, *(p.weights for p in widest))
    return max((recipe.lora_rank * max(p.inputs, p.outputs) for p in widest), default=0)


def _kept_activations(shape: ModelShape, recipe: Recipe) -> int:
    if recipe.checkpointing == "off":
        a_block = block_activations(shape, recipe)
    else:
        a_block = recipe.tokens * shape.hidden * recipe.precision.residual
        if recipe.checkpointing == "selective":
            a_block += block_products(shape, recipe)
    return outside_activations(shape, recipe) + shape.layers * a_block


def _buffers(shape: ModelShape, recipe: Recipe, trainable: int) -> int:
    size = shared_inputs(shape, recipe) + recipe.bucket * bucket_entries(trainable)
    if not recipe.deepspeed:
        size += trainable * recipe.precision.cast_weights
        if recipe.ranks > 1:
            # Data parallelism by torch sends gradients from buckets of its own.
            size += trainable * recipe.precision.gradient
    if recipe.zero_stage == 3 and (recipe.ranks > 1 or recipe.offload_param):
        size += _gathered(shape, recipe)
    return size


def _gathered(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes of the whole parameters that ZeRO-3 holds while it works on them."""
    width = recipe.precision.frozen
    block = 0 if recipe.quantized_bits else shape.layer_parameters * width
    table = shape.vocab * shape.hidden * width
    return max(2 * block, block + table)


def _overhead(parts: Parts, recipe: Recipe) -> int:
    if recipe.device == "cpu":
        return 0
    moving = parts.gradients + parts.activations + parts.logits + parts.buffers
    size = ASSUMED_CUDA_CONTEXT + int(moving * ASSUMED_FRAGMENTATION)
    return size + (ASSUMED_NCCL if recipe.ranks > 1 else 0)
