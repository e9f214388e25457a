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
           DoRA keeps both its products (arXiv 2402.09353); an 8-bit base keeps its input.
attention  q, k, v after rotation, the output, and one float a head and position (FlashAttention,
           arXiv 2205.14135). Flat rows need no more on a GPU; on a CPU the segments' outputs are
           joined, which is a second copy. Padded rows have a mask: then keys and values are
           repeated to every head, and the mask is kept at full width. A fused projection's output
           lives on whole because the values are a part of it. Eager attention keeps the S x S
           weights of every head in float32 and, in half precision, once more; so does a CPU when
           the model drops attention weights out, with the dropout's mask and product beside them.
feed-forward  gated: gate, silu(gate), up (3 c N f); plain: the rising projection (c N f); and the
           product where the falling projection keeps its input.
"""

from runners.hardware.recipe import Recipe
from runners.hardware.shape import ModelShape, Reads

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


def block_products(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes of a block's matrix products, which selective checkpointing keeps.

    The products of a quantized base are not among them: they are no plain matrix products.
    """
    entries = 0 if recipe.quantized_bits else sum(p.outputs for p in shape.projections)
    entries += sum(recipe.lora_rank + p.outputs for p in shape.projections if recipe.adapts(p))
    entries *= recipe.tokens
    if _attention_by_squares(shape, recipe):
        # Attention is then two products of its own: of queries and keys, and with the values.
        entries += _squares(recipe) * shape.heads + recipe.tokens * shape.query_width
    return entries * recipe.precision.compute


def outside_activations(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes kept outside the blocks: the last norm and the hidden states the head reads."""
    states = recipe.tokens * shape.hidden * recipe.precision.compute
    return _norm(shape, recipe) + states


def block_backward_scratch(shape: ModelShape, recipe: Recipe) -> int:
    """Bytes of the gradients that flow through the widest point of a block.

    A quantized base also has one matrix at a time at full width.
    """
    n, c = recipe.tokens, recipe.precision.compute
    matrix = max(p.weights for p in shape.projections) * c if recipe.quantized_bits else 0
    return n * c * (shape.hidden + 2 * shape.intermediate) + matrix


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
    """Bytes that all blocks share: ids and the like, rotary tables, the mask of padded rows."""
    ids = recipe.tokens * 8 * 4
    rotary = 0 if shape.positions else 2 * recipe.tokens * shape.head_dim * recipe.precision.compute
    mask = 0
    if recipe.attention != "flat":
        wide = recipe.precision.compute if recipe.attention == "eager" else 1
        mask = recipe.rows * recipe.length**2 * wide
    return ids + rotary + mask


def _norm(shape: ModelShape, recipe: Recipe) -> int:
    n, h = recipe.tokens, shape.hidden
    if shape.norm == "layer":
        return recipe.precision.residual * n * h + 8 * n
    normalised = recipe.precision.residual * n * h if recipe.method == "full" else 0
    return 4 * n * h + 4 * n + normalised


def _block_norms(shape: ModelShape, recipe: Recipe) -> int:
    n, c = recipe.tokens, recipe.precision.compute
    size = 2 * _norm(shape, recipe)
    if shape.parallel:
        size -= recipe.precision.residual * n * shape.hidden
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
    kept_anyway = reads == "attention_output" and _shares_its_output(shape, recipe)
    kept = 0 if kept_anyway else c * n * width
    if recipe.method == "full":
        return kept
    # LLM.int8 keeps its input although the base is frozen (arXiv 2208.07339).
    base = kept if recipe.quantized_bits == 8 else 0
    if not adapted:
        return base
    size = base + len(adapted) * n * recipe.lora_rank * c
    if recipe.dora:
        size += 2 * n * c * sum(p.outputs for p in adapted)
    if recipe.lora_dropout > 0:
        return size + len(adapted) * n * width * (c + _mask_width(recipe))
    if recipe.precision.recast_inputs:
        return size + len(adapted) * n * width * c
    return size + (kept if not base else 0)


def _shares_its_output(shape: ModelShape, recipe: Recipe) -> bool:
    """Whether the projection after attention reads the tensor that attention keeps for itself.

    It does unless the heads have to be brought side by side first, which copies.
    """
    if _attention_by_squares(shape, recipe):
        return False
    if recipe.attention == "flat":
        return recipe.device == "cuda"
    return not shape.partial_rotary


def _mask_width(recipe: Recipe) -> int:
    # On a GPU a dropout mask is a byte an entry; the CPU's dropout multiplies by numbers.
    return recipe.precision.compute if recipe.device == "cpu" else 1


def _attention_by_squares(shape: ModelShape, recipe: Recipe) -> bool:
    """Whether the S x S attention weights exist as a tensor."""
    dropped = recipe.device == "cpu" and shape.attention_dropout > 0
    return recipe.attention == "eager" or dropped


def _squares(recipe: Recipe) -> int:
    """Entries of one head's attention weights, S x S for each row or segment."""
    if recipe.attention == "flat":
        return int(recipe.tokens * min(recipe.segment, recipe.length))
    return recipe.rows * recipe.length**2


def _attention(shape: ModelShape, recipe: Recipe) -> int:
    n, c, q, kv = recipe.tokens, recipe.precision.compute, shape.query_width, shape.kv_width
    square = _squares(recipe)
    size = c * n * (q + kv) if shape.fused_qkv and not shape.positions else 0
    if _attention_by_squares(shape, recipe):
        copies = (4 if c == 4 else 4 + c) + (2 * c if shape.attention_dropout > 0 else 0)
        return size + c * n * 3 * q + square * shape.heads * copies
    if recipe.attention == "sdpa":
        return size + c * n * 4 * q + 4 * n * shape.heads + square * c
    return size + c * n * (2 * q + 2 * kv) + 4 * n * shape.heads


def _feed_forward(shape: ModelShape, recipe: Recipe) -> int:
    return recipe.tokens * recipe.precision.compute * shape.intermediate * (3 if shape.gated else 1)


def _residual_dropout(shape: ModelShape, recipe: Recipe) -> int:
    if not shape.residual_dropout:
        return 0
    return 2 * recipe.tokens * shape.hidden * _mask_width(recipe)
