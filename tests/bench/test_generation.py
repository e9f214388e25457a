"""Questions a second in padded batches against one-by-one ``generate``, same run and model."""

import time
from typing import Any

import pytest

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.generate.engine import Pool
from runners.generate.padded import PaddedEngine
from tests.runners.generate.conftest import make_model, make_tokenizer
from tests.runners.generate.one_by_one import generate_one
from tests.runners.generate.test_exactness import decoding_of, requests_of

pytestmark = pytest.mark.bench

MAX_LENGTH = 260


def measured() -> tuple[float, float]:
    """Questions a second: one by one, and batched. Both stop at the length limit or eos."""
    import torch

    torch.set_num_threads(1)
    tokenizer: Any = make_tokenizer()
    model = make_model("qwen2", len(tokenizer))
    decoding = decoding_of(tokenizer, stop_early=False, max_length=MAX_LENGTH)
    tasks = tuple(task for task in TASKS if task != "mbpp")
    requests = requests_of(demo_benchmarks(), tasks, tokenizer) * 3
    requests = [r for r in requests if len(r.ids) < MAX_LENGTH]
    started = time.perf_counter()
    sample = requests[::6]
    for request in sample:
        generate_one(model, tokenizer, decoding, request)
    alone = len(sample) / (time.perf_counter() - started)
    started = time.perf_counter()
    made = list(PaddedEngine(model, tokenizer, decoding, rows=36).complete(Pool(requests)))
    return alone, len(made) / (time.perf_counter() - started)


def test_padded_batches_answer_at_least_five_times_as_many_questions_a_second() -> None:
    alone, batched = measured()
    print(f"\none by one {alone:.2f}/s, batched {batched:.2f}/s: {batched / alone:.1f} times")
    assert batched >= 5 * alone
