"""Which tensors a transformer block keeps for its backward pass, and their bytes.

Derived from what torch's functions save, tensor by tensor, in the order in which a block computes.
N is the number of positions of a micro-batch (rows times length), S the length, h, q, kv and f the
widths of the residual stream, the queries, the keys and the feed-forward, c the bytes an entry of
the compute type.

norm       RMS: the float32 input (4 N h; in float32 computing that is the residual stream itself)
           and one float32 a position; layer norm: its input (c N h) and two floats a position. The
           two norms of a parallel block share one input. A trained RMS weight also keeps the
           normalised input.
projection  a trained weight keeps its input, once for all that read it. A frozen one keeps nothing;
           its adapter keeps what it reads, after its own dropout (a copy and a mask for each
           adapter) or shared where there is no dropout, and the r numbers between its matrices.
attention  q, k, v after rotation, the output, and one float a head and position (FlashAttention,
           arXiv 2205.14135); keys and values repeated to every head, and the mask at full width,
           where a mask rules out grouped attention. A fused projection's output lives on whole
           because the values are a part of it. Eager attention keeps the S x S weights of every
           head in float32 and, in half precision, once more; so does a CPU when the model drops
           attention weights out, with the mask and the product beside them.
feed-forward  gated: gate, silu(gate), up (3 c N f); plain: the rising projection (c N f); and the
           product where the falling projection keeps its input.
"""

from runners.hardware.recipe import Recipe
from runners.hardware.shape import ModelShape, Projection, Reads

CHUNK_LOGITS = 1 << 26
"""Most logits that the loss holds at a time; ``runners.train.cross_entropy`` sets it."""


def block_activations(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes that one block keeps until its backward pass."""
    return (
        _block_norms(shape, recipe)
        + _projections(shape, recipe)
        + _attention(shape, recipe)
        + _feed_forward(shape, recipe)
        + _residual_dropout(shape, recipe)
    )


def outside_activations(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes kept outside the blocks: the last norm and the hidden states the head reads."""
    states = recipe.tokens * shape.hidden * recipe.precision.compute
    return _norm(shape, recipe) + states


def block_backward_scratch(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes of the gradients that flow through the widest point of a block."""
    n, c = recipe.tokens, recipe.precision.compute
    return n * c * (shape.hidden + 2 * shape.intermediate)


def loss_workspace(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes around the head at the beginning of the backward pass.

    The trained positions' hidden states and their gradient, and of the chunk of logits at work
    three float32 copies: the log-probabilities, and the gradients before and after the softmax.
    """
    positions = int(recipe.tokens * recipe.trained_share)
    chunk = min(positions, max(1, CHUNK_LOGITS // shape.vocab))
    states = 2 * positions * shape.hidden * recipe.precision.compute
    return states + chunk * shape.vocab * 12


def shared_inputs(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes that all blocks share: ids and the like, rotary tables, the mask of packed rows."""
    ids = recipe.tokens * 8 * 4
    rotary = 0 if shape.positions else 2 * recipe.tokens * shape.head_dim * recipe.precision.compute
    mask = 0
    if recipe.attention != "flash" and (recipe.packed or recipe.attention == "eager"):
        wide = recipe.precision.compute if recipe.attention == "eager" else 1
        mask = recipe.rows * recipe.length**2 * wide
    return ids + rotary + mask


def _norm(shape: ModelShape, recipe: Recipe) -> int:
    n, h, c = recipe.tokens, shape.hidden, recipe.precision.compute
    if shape.norm == "layer":
        return c * n * h + 8 * n
    return 4 * n * h + 4 * n + (c * n * h if recipe.method == "full" else 0)


def _block_norms(shape: ModelShape, recipe: Recipe) -> int:
    n, c = recipe.tokens, recipe.precision.compute
    size = 2 * _norm(shape, recipe)
    if shape.parallel:
        size -= c * n * shape.hidden
    if shape.qk_norm:
        width = shape.query_width + shape.kv_width
        size += n * width * (4 + (c if recipe.method == "full" else 0))
    return size


def _projections(shape: ModelShape, recipe: Recipe) -> int:
    widths: dict[Reads, int] = {p.reads: p.inputs for p in shape.projections}
    return sum(_input(shape, recipe, reads, width) for reads, width in widths.items())


def _input(shape: ModelShape, recipe: Recipe, reads: Reads, width: int) -> int:
    n, c = recipe.tokens, recipe.precision.compute
    readers = [p for p in shape.projections if p.reads == reads]
    adapted = [p for p in readers if recipe.adapts(p)]
    # Attention keeps its output for itself, and the projection that reads it shares it, unless the
    # heads have to be brought side by side first.
    shared = reads == "attention_output" and not _attention_by_squares(shape, recipe)
    kept_anyway = shared and not shape.partial_rotary
    if recipe.method == "full":
        return 0 if kept_anyway else c * n * width
    if not adapted:
        return 0
    return _adapters(recipe, adapted, width, 0 if kept_anyway else c * n * width)


def _adapters(recipe: Recipe, adapted: list[Projection], width: int, shared: int) -> int:
    n, a = recipe.tokens, recipe.precision.adapter_input
    between = len(adapted) * n * recipe.lora_rank * a
    if recipe.lora_dropout > 0:
        return between + len(adapted) * n * width * (a + _mask_width(recipe))
    return between + (shared if a == recipe.precision.compute else len(adapted) * a * n * width)


def _mask_width(recipe: Recipe) -> int:
    # On a GPU a dropout mask is a byte an entry; the CPU's dropout multiplies by numbers.
    return recipe.precision.compute if recipe.device == "cpu" else 1


def _attention_by_squares(shape: ModelShape, recipe: Recipe) -> bool:
    """Whether the S x S attention weights exist as a tensor."""
    dropped = recipe.device == "cpu" and shape.attention_dropout > 0
    return recipe.attention == "eager" or (recipe.attention == "sdpa" and dropped)


def _attention(shape: ModelShape, recipe: Recipe) -> int:
    n, c, q, kv = recipe.tokens, recipe.precision.compute, shape.query_width, shape.kv_width
    square = recipe.rows * recipe.length**2
    size = c * n * (q + kv) if shape.fused_qkv and not shape.positions else 0
    if _attention_by_squares(shape, recipe):
        copies = (4 if c == 4 else 4 + c) + (2 * c if shape.attention_dropout > 0 else 0)
        return size + c * n * 3 * q + square * shape.heads * copies
    if recipe.attention == "sdpa" and recipe.packed:
        return size + c * n * 4 * q + 4 * n * shape.heads + square * c
    return size + c * n * (2 * q + 2 * kv) + 4 * n * shape.heads


def _feed_forward(shape: ModelShape, recipe: Recipe) -> int:
    return recipe.tokens * recipe.precision.compute * shape.intermediate * (3 if shape.gated else 1)


def _residual_dropout(shape: ModelShape, recipe: Recipe) -> int:
    if not shape.residual_dropout:
        return 0
    return 2 * recipe.tokens * shape.hidden * _mask_width(recipe)
