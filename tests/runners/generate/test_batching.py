"""Which way rows are batched, and what becomes of them when a way fails."""

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.tasks import TASKS
from runners.config import GenerateConfig
from runners.generate import continuous, local
from runners.generate.continuous import ContinuousEngine, GaveUpError
from runners.generate.engine import Completion, Pool, Request
from runners.generate.ledger import Key
from runners.generate.local import LocalEngine, way_to_batch
from runners.generate.padded import PaddedEngine
from runners.generate.ranks import Ranks
from runners.lifecycle.events import EventWriter
from tests.runners.generate.conftest import make_model
from tests.runners.generate.test_exactness import MAX_LENGTH, decoding_of, requests_of

GPU, CPU = torch.device("cuda"), torch.device("cpu")


def shape(**changes: Any) -> Any:
    """What the decision looks at of a model."""
    given = {"dtype": torch.bfloat16, "_supports_flash_attn": True}
    return SimpleNamespace(**given | {"init_continuous_batching": None} | changes)


@pytest.fixture
def flash(monkeypatch: pytest.MonkeyPatch) -> Callable[[bool], None]:
    """Says whether flash attention is installed."""

    def set_to(present: bool) -> None:
        monkeypatch.setattr(
            continuous, "is_flash_attn_2_available", lambda kernels_fallback_ok: present
        )

    return set_to


@pytest.mark.parametrize(
    ("asked", "device", "installed", "model", "way", "told"),
    [
        ("auto", GPU, True, shape(), "continuous", None),
        ("auto", GPU, False, shape(), "padded", "mft-tui[flash]"),
        ("auto", GPU, True, shape(dtype=torch.float32), "padded", "bf16 or fp16"),
        ("auto", GPU, True, shape(_supports_flash_attn=False), "padded", "no CUDA graphs"),
        ("auto", GPU, True, shape(is_loaded_in_8bit=True), "padded", "8-bit"),
        ("auto", CPU, False, shape(), "padded", None),
        ("continuous", GPU, False, shape(), "continuous", "batching=padded may be faster"),
        ("continuous", GPU, True, shape(is_loaded_in_8bit=True), "padded", "8-bit"),
        ("continuous", CPU, False, shape(), "continuous", None),
        ("padded", GPU, True, shape(), "padded", None),
    ],
)
def test_rows_are_batched_in_the_way_that_the_hardware_and_the_model_can_take(
    asked: str,
    device: torch.device,
    installed: bool,
    model: Any,
    way: str,
    told: str | None,
    flash: Callable[[bool], None],
    tokenizer: Any,
) -> None:
    flash(installed)
    chosen, notice = way_to_batch(model, decoding_of(tokenizer), device, asked)
    assert chosen == way
    assert (notice is None) == (told is None)
    assert notice is None or (told is not None and told in notice[1])


@pytest.mark.parametrize(
    ("changes", "told"), [({"do_sample": True}, "sample"), ({"repetition_penalty": 1.1}, "penalty")]
)
def test_what_continuous_batching_cannot_do_is_done_with_padding_and_told(
    changes: dict[str, Any], told: str, flash: Callable[[bool], None], tokenizer: Any
) -> None:
    flash(True)
    decoding = decoding_of(tokenizer, **changes)
    chosen, notice = way_to_batch(shape(), decoding, GPU, "continuous")
    assert chosen == "padded"
    assert notice is not None
    assert notice[0] == "warning"
    assert told in notice[1]


def fitting(tokenizer: Any) -> list[Request]:
    every = requests_of(demo_benchmarks(), TASKS, tokenizer)
    return [request for request in every if len(request.ids) < MAX_LENGTH]


def texts(made: list[Completion]) -> dict[Key, str]:
    assert len({completion.key for completion in made}) == len(made)
    return {completion.key: completion.completion for completion in made}


def breaking(model: Any, calls: int) -> Any:
    """The model, which fails in every paged forward pass after some of them."""
    forward, seen = model.forward, [0]

    def failing(*args: Any, **kwargs: Any) -> Any:
        if "block_table" in kwargs or "cu_seq_lens_q" in kwargs:
            seen[0] += 1
            if seen[0] > calls:
                raise RuntimeError("operation not permitted when stream is capturing")
        return forward(*args, **kwargs)

    model.forward = failing
    return model


def unstartable(model: Any) -> Any:
    """The model, whose continuous batching does not come up."""

    def failing(**_: Any) -> Any:
        raise ImportError("no kernel for this card")

    model.init_continuous_batching = failing
    return model


@pytest.mark.parametrize("calls", [None, 0, 40])
def test_what_continuous_batching_leaves_is_answered_with_padding(
    calls: int | None,
    tokenizer: Any,
    checkpoint: Callable[[str], Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    load = local.load_model

    def load_breaking(*args: Any) -> Any:
        loaded = load(*args)
        if calls is None:
            unstartable(loaded.model)
        else:
            breaking(loaded.model, calls)
        return loaded

    monkeypatch.setattr(local, "load_model", load_breaking)
    events = EventWriter(tmp_path / "events.jsonl")

    def answers(batching: str) -> dict[Key, str]:
        config = GenerateConfig(
            model=str(checkpoint("qwen2")),
            model_name="m",
            use_cpu=True,
            batching=batching,
            batch_size=7,
            max_length=MAX_LENGTH,
        )
        engine = LocalEngine(config, Ranks(), events)
        return texts(list(engine.complete(Pool(engine.prepared(fitting(tokenizer))))))

    assert answers("continuous") == answers("padded")
    told = (tmp_path / "events.jsonl").read_text()
    assert "continuous batching gave up" in told
    assert ("no kernel for this card" if calls is None else "stream is capturing") in told


def test_requests_taken_before_the_breakdown_are_handed_over(tokenizer: Any) -> None:
    model = breaking(make_model("qwen2", len(tokenizer)), 12)
    requests = fitting(tokenizer)
    pool = Pool(requests)
    made: list[Key] = []
    engine = ContinuousEngine(model, tokenizer, decoding_of(tokenizer), rows=5)

    def answer_until_it_breaks() -> None:
        for completion in engine.complete(pool):
            made.append(completion.key)

    with pytest.raises(GaveUpError) as caught:
        answer_until_it_breaks()
    left = [request.key for request in (*caught.value.unfinished, *pool.take(100))]
    assert sorted([*made, *left]) == sorted(request.key for request in requests)
    assert 0 < len(caught.value.unfinished) <= 5


def test_a_stop_leaves_the_rows_in_flight_where_they_are(tokenizer: Any) -> None:
    model = make_model("qwen2", len(tokenizer))
    attention, stop = model.config._attn_implementation, threading.Event()
    forward, calls = model.forward, [0]

    def slow(*args: Any, **kwargs: Any) -> Any:
        calls[0] += 1
        if calls[0] == 5:
            stop.set()
        time.sleep(0.02)
        return forward(*args, **kwargs)

    model.forward = slow
    decoding = decoding_of(tokenizer, stop_early=False, max_length=1000)
    pool = Pool(fitting(tokenizer), stopping=stop.is_set)
    engine = ContinuousEngine(model, tokenizer, decoding, rows=6)
    made = list(engine.complete(pool))
    assert len(made) < 6
    # Run on to their limit, the rows would have taken hundreds of passes more.
    assert calls[0] < 60
    assert model.config._attn_implementation == attention
    assert not [t for t in threading.enumerate() if "generation_loop" in t.name]


def test_rows_that_memory_does_not_hold_are_begun_again_in_smaller_batches(tokenizer: Any) -> None:
    model = make_model("qwen2", len(tokenizer))
    requests, decoding = fitting(tokenizer), decoding_of(tokenizer)
    whole = texts(list(PaddedEngine(model, tokenizer, decoding, rows=4).complete(Pool(requests))))
    forward, widths = model.forward, []

    def small(*args: Any, **kwargs: Any) -> Any:
        widths.append(len(kwargs["input_ids"]))
        if widths[-1] > 3:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(*args, **kwargs)

    model.forward = small
    made = list(PaddedEngine(model, tokenizer, decoding, rows=16).complete(Pool(requests)))
    assert texts(made) == whole
    assert max(widths) == 16


def test_a_spent_pool_is_not_claimed_from_again() -> None:
    claims: list[int] = []

    def claim(count: int) -> int:
        claims.append(count)
        return sum(claims) - count

    requests = [Request("mbpp", index, 0, "text") for index in range(5)]
    pool = Pool(requests, claim)

    def taken() -> Iterator[Request]:
        while some := pool.take(2):
            yield from some

    assert [request.index for request in taken()] == [0, 1, 2, 3, 4]
    assert pool.take(2) == []
    assert claims == [2, 2, 2]
