"""Which tensors a transformer block keeps for its backward pass, and their bytes.

Derived from what torch's functions save, tensor by tensor, in the order in which a block computes.
N is the number of positions of a micro-batch (rows times length), S the length, h, q, kv and f the
widths of the residual stream, the queries, the keys and the feed-forward, c the bytes an entry of
the compute type.

norm       RMS: the float32 input (4 N h; in float32 computing that is the residual stream itself)
           and one float32 a position; layer norm: its input (c N h) and two floats a position.
           A trained weight also keeps the normalised input.
projection  a trained weight keeps its input, once for all that read it. A frozen one keeps nothing;
           its adapter keeps what it reads, after its own dropout (a copy and a mask for each
           adapter) or shared where there is no dropout, and the r numbers between its matrices.
attention  q, k, v after rotation, the output, and one float a head and position (FlashAttention,
           arXiv 2205.14135); keys and values repeated to every head where a mask rules out grouped
           attention. Eager attention keeps the S x S weights of every head in float32 and, in half
           precision, once more.
feed-forward  gated: gate, silu(gate), up (3 c N f); plain: the rising projection (c N f); and the
           product where the falling projection keeps its input.
"""

from runners.hardware.recipe import Recipe
from runners.hardware.shape import ModelShape, Projection, Reads

LOSS_CHUNK = 1024
"""Trained positions whose logits exist at once."""


def block_activations(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes that one block keeps until its backward pass."""
    return (
        2 * _norm(shape, recipe)
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
    """Bytes around the head: the hidden states' gradient and one chunk of logits.

    Of a chunk there are the logits in the compute type, and in float32 themselves and their
    gradient.
    """
    positions = min(LOSS_CHUNK, recipe.tokens)
    c = recipe.precision.compute
    states = recipe.tokens * shape.hidden * c
    return states + positions * shape.vocab * (8 + (c if c < 4 else 0))


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
    normalised = c * n * h if recipe.method == "full" and shape.norm == "rms" else 0
    if shape.norm == "rms":
        return 4 * n * h + 4 * n + normalised
    return c * n * h + 8 * n


def _projections(shape: ModelShape, recipe: Recipe) -> int:
    widths: dict[Reads, int] = {p.reads: p.inputs for p in shape.projections}
    return sum(_input(shape, recipe, reads, width) for reads, width in widths.items())


def _input(shape: ModelShape, recipe: Recipe, reads: Reads, width: int) -> int:
    n, c = recipe.tokens, recipe.precision.compute
    readers = [p for p in shape.projections if p.reads == reads]
    adapted = [p for p in readers if recipe.adapts(p)]
    # Attention keeps its output for itself; the projection that reads it shares it.
    kept_anyway = reads == "attention_output" and recipe.attention != "eager"
    if recipe.method == "full":
        return 0 if kept_anyway else c * n * width
    if not adapted:
        return 0
    return _adapters(recipe, adapted, width, 0 if kept_anyway else c * n * width)


def _adapters(recipe: Recipe, adapted: list[Projection], width: int, shared: int) -> int:
    n, a = recipe.tokens, recipe.precision.adapter_input
    between = len(adapted) * n * recipe.lora_rank * a
    if recipe.lora_dropout > 0:
        # On a GPU the mask is a byte an entry; the CPU's dropout multiplies by numbers.
        mask = a if recipe.device == "cpu" else 1
        return between + len(adapted) * n * width * (a + mask)
    return between + (shared if a == recipe.precision.compute else len(adapted) * a * n * width)


def _attention(shape: ModelShape, recipe: Recipe) -> int:
    n, c, q = recipe.tokens, recipe.precision.compute, shape.query_width
    masked = recipe.attention == "eager" or (recipe.attention == "sdpa" and recipe.packed)
    kv = q if masked else shape.kv_width
    if recipe.attention == "eager":
        squares = recipe.rows * shape.heads * recipe.length**2
        return c * n * (q + 2 * kv) + squares * (4 if c == 4 else 4 + c)
    return c * n * (2 * q + 2 * kv) + 4 * n * shape.heads


def _feed_forward(shape: ModelShape, recipe: Recipe) -> int:
    return recipe.tokens * recipe.precision.compute * shape.intermediate * (3 if shape.gated else 1)


def _residual_dropout(shape: ModelShape, recipe: Recipe) -> int:
    if not shape.residual_dropout:
        return 0
    mask = recipe.precision.compute if recipe.device == "cpu" else 1
    return 2 * recipe.tokens * shape.hidden * mask
