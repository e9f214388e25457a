"""Batched greedy output is token for token that of one-by-one ``model.generate`` in float32."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Protocol

import pytest
import torch

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.prompts import prompt
from runners.benchmarks.rows import load_questions
from runners.benchmarks.tasks import TASKS
from runners.generate import padded
from runners.generate.continuous import ContinuousEngine
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Finish, Pool, Request
from runners.generate.ledger import Key
from runners.generate.padded import PaddedEngine
from runners.generate.prompt_tokens import tokenized
from runners.generate.rows import RowState
from tests.runners.generate.conftest import END_OF_TURN, demo_texts, make_model, make_tokenizer
from tests.runners.generate.one_by_one import generate_one

MAX_LENGTH = 180


def requests_of(folder: Path, tasks: tuple[str, ...], tokenizer: Any) -> list[Request]:
    asked = [
        Request(task, question.index, 0, prompt(question).text)
        for task in tasks
        for question in load_questions(folder, task)
    ]
    return tokenized(tokenizer, asked, chat=False)


def decoding_of(tokenizer: Any, **changes: Any) -> Decoding:
    eos_id = tokenizer.convert_tokens_to_ids(END_OF_TURN)
    return Decoding(**{"max_length": MAX_LENGTH, "eos": END_OF_TURN, "eos_id": eos_id} | changes)


class Batching(Protocol):
    def complete(self, pool: Pool) -> Iterator[Completion]: ...


MODES: dict[str, Callable[[Any, Any, Decoding, int], Batching]] = {
    "one row": lambda m, t, d, rows: PaddedEngine(m, t, d, rows=1),
    "batches": lambda m, t, d, rows: PaddedEngine(m, t, d, rows=rows, refill=0.0),
    "leaving and joining": lambda m, t, d, rows: PaddedEngine(m, t, d, rows=rows),
    "continuous": lambda m, t, d, rows: ContinuousEngine(m, t, d, rows=rows),
}


@pytest.fixture
def made_tokens(monkeypatch: pytest.MonkeyPatch) -> dict[Key, list[int]]:
    """The token numbers of each completion, which its text alone does not tell."""
    made: dict[Key, list[int]] = {}
    finished = RowState.finished

    def remembered(row: RowState, finish: Finish) -> Completion:
        made[row.request.key] = list(row.generated)
        return finished(row, finish)

    monkeypatch.setattr(RowState, "finished", remembered)
    return made


def one_by_one(
    model: Any, tokenizer: Any, decoding: Decoding, requests: list[Request]
) -> dict[Key, list[int]]:
    """What plain ``generate`` makes of each request."""
    return {r.key: generate_one(model, tokenizer, decoding, r) for r in requests}


def assert_same(
    made: list[Completion],
    made_tokens: dict[Key, list[int]],
    plain: dict[Key, list[int]],
    tokenizer: Any,
) -> None:
    """The same questions, each once, with the same tokens and their text."""
    assert sorted(completion.key for completion in made) == sorted(plain)
    assert made_tokens == plain
    for completion in made:
        expected = plain[completion.key]
        text = tokenizer.decode(expected, clean_up_tokenization_spaces=False)
        assert (completion.completion, completion.tokens) == (text, len(expected)), completion.key


@pytest.mark.parametrize("kind", ["qwen2", "gpt_bigcode"])
@pytest.mark.parametrize("stop_early", [True, False])
def test_no_way_of_batching_changes_a_token(
    kind: str, stop_early: bool, tokenizer: Any, made_tokens: dict[Key, list[int]]
) -> None:
    model = make_model(kind, len(tokenizer))
    decoding = decoding_of(tokenizer, stop_early=stop_early)
    requests = [
        request
        for request in requests_of(demo_benchmarks(), TASKS, tokenizer)
        if len(request.ids) < MAX_LENGTH
    ][::2]
    plain = one_by_one(model, tokenizer, decoding, requests)
    for mode, engine in MODES.items():
        made_tokens.clear()
        made = list(engine(model, tokenizer, decoding, 7).complete(Pool(requests)))
        finishes = {completion.finish for completion in made}
        assert finishes >= ({"rule", "length"} if stop_early else {"length"}), mode
        assert_same(made, made_tokens, plain, tokenizer)


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a GPU")
@pytest.mark.parametrize("kind", ["qwen2", "gpt_bigcode"])
@pytest.mark.parametrize("mode", MODES)
def test_no_way_of_batching_changes_a_token_on_a_gpu(
    kind: str, mode: str, tokenizer: Any, made_tokens: dict[Key, list[int]]
) -> None:
    model = make_model(kind, len(tokenizer)).to("cuda")
    decoding = decoding_of(tokenizer)
    every = requests_of(demo_benchmarks(), TASKS, tokenizer)
    requests = [request for request in every if len(request.ids) < MAX_LENGTH]
    made = list(MODES[mode](model, tokenizer, decoding, 7).complete(Pool(requests)))
    assert_same(made, made_tokens, one_by_one(model, tokenizer, decoding, requests), tokenizer)


def test_the_repetition_penalty_of_the_checkpoint_never_sees_a_pad(
    tokenizer: Any, made_tokens: dict[Key, list[int]]
) -> None:
    model = make_model("qwen2", len(tokenizer))
    decoding = decoding_of(tokenizer, repetition_penalty=1.3, stop_early=False, max_length=200)
    requests = [r for r in requests_of(demo_benchmarks(), TASKS, tokenizer) if len(r.ids) < 190]
    made = list(PaddedEngine(model, tokenizer, decoding, rows=6).complete(Pool(requests)))
    assert_same(made, made_tokens, one_by_one(model, tokenizer, decoding, requests), tokenizer)


@pytest.mark.parametrize("prefill", [16_384, 300])
def test_a_sliding_window_model_is_answered_exactly_too(
    prefill: int,
    tokenizer: Any,
    made_tokens: dict[Key, list[int]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from transformers import MistralConfig, MistralForCausalLM

    torch.manual_seed(3)
    model = MistralForCausalLM(
        MistralConfig(
            vocab_size=len(tokenizer),
            hidden_size=64,
            intermediate_size=128,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            sliding_window=48,
            initializer_range=0.4,
            bos_token_id=None,
            eos_token_id=2,
        )
    ).eval()
    # Few tokens at once make several groups of what is taken, which cannot join one another here.
    monkeypatch.setattr(padded, "_PREFILL_TOKENS", prefill)
    decoding = decoding_of(tokenizer, max_length=220)
    requests = [r for r in requests_of(demo_benchmarks(), TASKS, tokenizer) if len(r.ids) < 210]
    made = list(PaddedEngine(model, tokenizer, decoding, rows=5).complete(Pool(requests)))
    assert_same(made, made_tokens, one_by_one(model, tokenizer, decoding, requests), tokenizer)


def test_rows_that_are_over_at_their_first_token_leave_nothing_to_join(
    tokenizer: Any, made_tokens: dict[Key, list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("qwen2", len(tokenizer))
    requests = requests_of(demo_benchmarks(), TASKS, tokenizer)
    requests.sort(key=lambda request: -len(request.ids))
    requests = requests[:8]
    # The longest prompt has room for one token, and is a group of its own.
    decoding = decoding_of(tokenizer, max_length=len(requests[0].ids) + 1, stop_early=False)
    monkeypatch.setattr(padded, "_PREFILL_TOKENS", 1)
    made = list(PaddedEngine(model, tokenizer, decoding, rows=8).complete(Pool(requests)))
    assert_same(made, made_tokens, one_by_one(model, tokenizer, decoding, requests), tokenizer)


def test_samples_do_not_depend_on_the_batch_they_were_made_in(tokenizer: Any) -> None:
    model = make_model("qwen2", len(tokenizer))
    decoding = decoding_of(
        tokenizer, do_sample=True, temperature=0.8, top_p=0.95, seed=5, max_length=160
    )
    requests = [r for r in requests_of(demo_benchmarks(), TASKS, tokenizer) if len(r.ids) < 150]
    texts = [
        {
            c.key: c.completion
            for c in PaddedEngine(model, tokenizer, decoding, rows=rows).complete(Pool(requests))
        }
        for rows in (1, 9)
    ]
    assert texts[0] == texts[1]


@pytest.mark.full
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("kind", ["qwen2", "gpt_bigcode"])
@pytest.mark.parametrize("stop_early", [True, False])
@pytest.mark.parametrize("task", ["humanevalsynthesize-python", "humanevalfixtests-java", "mbpp"])
def test_every_question_of_three_real_tasks_is_answered_token_for_token(
    kind: str, stop_early: bool, task: str, shared: Path, made_tokens: dict[Key, list[int]]
) -> None:
    asked = [prompt(q).text for q in load_questions(shared / "benchmarks", task)]
    tokenizer = make_tokenizer([*asked, *demo_texts()], 2000)
    model = make_model(kind, len(tokenizer), hidden=32)
    requests = requests_of(shared / "benchmarks", (task,), tokenizer)
    assert len(requests) == (500 if task == "mbpp" else 164)
    # Prompts of like length share a limit, so that each has room and none runs on for minutes.
    requests.sort(key=lambda request: len(request.ids))
    for start in range(0, len(requests), 100):
        group = requests[start : start + 100]
        decoding = decoding_of(tokenizer, stop_early=stop_early, max_length=len(group[-1].ids) + 32)
        plain = one_by_one(model, tokenizer, decoding, group)
        for engine in MODES.values():
            made_tokens.clear()
            made = list(engine(model, tokenizer, decoding, 24).complete(Pool(group)))
            assert_same(made, made_tokens, plain, tokenizer)
