"""Questions a second in batches against one-by-one ``generate``, in the same run and of one model.

On a GPU also the share of the memory-bandwidth limit: a step of decoding must read every weight and
every key and value of its rows once, and cannot be faster than that.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest
import torch

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.generate.continuous import ContinuousEngine, has_flash_attention
from runners.generate.decoding import Decoding
from runners.generate.engine import Pool, Request
from runners.generate.loading import rows_that_fit
from runners.generate.padded import PaddedEngine, release_memory
from tests.runners.generate.conftest import make_model, make_tokenizer
from tests.runners.generate.one_by_one import generate_one
from tests.runners.generate.test_exactness import Batching, decoding_of, requests_of

pytestmark = pytest.mark.bench

MAX_LENGTH = 260
GPU_NEW_TOKENS = 256
GPU_QUESTIONS = 512
GPU_ALONE = 3


def copies(requests: list[Request], count: int) -> list[Request]:
    """As many requests as asked for: the same prompts, as samples of their own."""
    return [
        Request(r.task, r.index, number // len(requests), r.text, r.ids)
        for number, r in enumerate((requests * (count // len(requests) + 1))[:count])
    ]


def humanevalpack(tokenizer: Any) -> list[Request]:
    """The demo's questions that no rule stops: they go on to eos or the limit."""
    tasks = tuple(task for task in TASKS if task != "mbpp")
    return requests_of(demo_benchmarks(), tasks, tokenizer)


def measured() -> tuple[float, float]:
    """Questions a second: one by one, and batched. Both stop at the length limit or eos."""
    torch.set_num_threads(1)
    tokenizer: Any = make_tokenizer()
    model = make_model("qwen2", len(tokenizer))
    decoding = decoding_of(tokenizer, stop_early=False, max_length=MAX_LENGTH)
    asked = [r for r in humanevalpack(tokenizer) if len(r.ids) < MAX_LENGTH]
    # All of them, so that what is alone and what is batched is the same mix of lengths.
    started = time.perf_counter()
    for request in asked:
        generate_one(model, tokenizer, decoding, request)
    alone = len(asked) / (time.perf_counter() - started)
    requests = copies(asked, 3 * len(asked))
    started = time.perf_counter()
    made = list(PaddedEngine(model, tokenizer, decoding, rows=36).complete(Pool(requests)))
    assert len(made) == len(requests)
    return alone, len(made) / (time.perf_counter() - started)


def test_padded_batches_answer_at_least_five_times_as_many_questions_a_second() -> None:
    alone, batched = measured()
    print(f"\none by one {alone:.2f}/s, batched {batched:.2f}/s: {batched / alone:.1f} times")
    assert batched >= 5 * alone


@dataclass(frozen=True)
class Shape:
    """What decoding reads: ``weights`` bytes a step, ``token`` bytes of keys and values."""

    weights: int
    token: int

    @classmethod
    def of(cls, model: Any) -> "Shape":
        """Of a model whose head shares its embedding, so that a step reads every weight."""
        config = model.config
        assert config.tie_word_embeddings
        size = config.hidden_size // config.num_attention_heads
        weights = sum(p.numel() * p.element_size() for p in model.parameters())
        token = 2 * config.num_hidden_layers * config.num_key_value_heads * size
        return cls(weights, token * model.dtype.itemsize)

    def bytes_read(self, requests: list[Request], length: int, rows: int) -> float:
        """Bytes that decoding all up to ``length`` reads at least, with ``rows`` rows at once."""
        new = sum(length - len(request.ids) for request in requests)
        held = sum((length - len(r.ids)) * (length + len(r.ids)) / 2 for r in requests)
        return self.weights * new / rows + self.token * held


def qwen_1_5b() -> Any:
    """The shape of Qwen2.5-Coder-1.5B with random weights, in bf16 on the GPU."""
    from transformers import Qwen2Config, Qwen2ForCausalLM

    torch.manual_seed(7)
    config = Qwen2Config(
        vocab_size=151_936,
        hidden_size=1536,
        intermediate_size=8960,
        num_hidden_layers=28,
        num_attention_heads=12,
        num_key_value_heads=2,
        max_position_embeddings=4096,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=None,
        dtype="bfloat16",
    )
    with torch.device("cuda"):
        return Qwen2ForCausalLM(config).to(torch.bfloat16).eval()


def copy_bandwidth() -> float:
    """Bytes a second that this card reads and writes when it copies: the limit that it has."""
    source = torch.empty(1 << 30, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    target.copy_(source)
    torch.cuda.synchronize()
    started = time.perf_counter()
    for _ in range(20):
        target.copy_(source)
    torch.cuda.synchronize()
    return 20 * 2 * source.numel() / (time.perf_counter() - started)


def alone_on_gpu(model: Any, length: int, requests: list[Request]) -> float:
    """Questions a second of plain ``generate``, one at a time, all up to the same length."""
    torch.cuda.synchronize()
    started = time.perf_counter()
    with torch.inference_mode():
        for request in requests:
            ids = torch.tensor([request.ids], device="cuda")
            output = model.generate(
                ids,
                attention_mask=torch.ones_like(ids),
                do_sample=False,
                max_length=length,
                pad_token_id=0,
            )
            assert output.shape[1] == length
    torch.cuda.synchronize()
    return len(requests) / (time.perf_counter() - started)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.timeout(1800)
def test_a_gpu_answers_at_least_twenty_times_as_many_questions_a_second() -> None:
    tokenizer: Any = make_tokenizer()
    model = qwen_1_5b()
    asked = humanevalpack(tokenizer)
    length = max(len(request.ids) for request in asked) + GPU_NEW_TOKENS
    # An end token that no model writes: every row goes on to the limit, as alone.
    decoding = Decoding(max_length=length, eos="<|none|>", eos_id=-1, stop_early=False)
    rows = rows_that_fit(model, length, torch.device("cuda"))
    alone_on_gpu(model, length, asked[:1])
    alone = alone_on_gpu(model, length, asked[:: len(asked) // GPU_ALONE][:GPU_ALONE])
    requests, limit, shape = copies(asked, GPU_QUESTIONS), copy_bandwidth(), Shape.of(model)
    needed = shape.bytes_read(requests, length, min(rows, len(requests)))
    print(f"\n{torch.cuda.get_device_name()}, {rows} rows, {length} tokens: alone {alone:.3f}/s")

    ways: dict[str, Callable[[], Batching]] = {
        "padded": lambda: PaddedEngine(model, tokenizer, decoding, rows=rows),
        "continuous": lambda: ContinuousEngine(model, tokenizer, decoding, rows=rows),
    }
    taken = "continuous" if has_flash_attention(model) else "padded"
    rates: dict[str, float] = {}
    for name, way in ways.items():
        # Loading kernels and capturing graphs is part of it, as in a job: nothing is warmed up.
        release_memory()
        started = time.perf_counter()
        made = list(way().complete(Pool(requests)))
        torch.cuda.synchronize()
        seconds = time.perf_counter() - started
        assert len(made) == len(requests)
        assert {completion.finish for completion in made} == {"length"}
        rates[name] = len(made) / seconds
        print(
            f"{name}{' (batching=auto)' if name == taken else ''}: {rates[name]:.2f}/s, "
            f"{rates[name] / alone:.1f} times one by one, {needed / seconds / limit:.0%} of the "
            f"memory-bandwidth limit ({limit / 1e12:.2f} TB/s)"
        )
    assert rates[taken] >= 20 * alone
