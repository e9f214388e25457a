"""Batched greedy output is token for token that of one-by-one ``model.generate`` in float32."""

from pathlib import Path
from typing import Any

import pytest

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.prompts import prompt
from runners.benchmarks.rows import load_questions
from runners.benchmarks.tasks import TASKS
from runners.generate.decoding import Decoding
from runners.generate.engine import Completion, Pool, Request
from runners.generate.local import tokenized
from runners.generate.padded import PaddedEngine
from tests.runners.generate.conftest import END_OF_TURN, make_model
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


def assert_same_tokens(
    model: Any, tokenizer: Any, decoding: Decoding, requests: list[Request], made: list[Completion]
) -> None:
    assert sorted(c.key for c in made) == sorted(r.key for r in requests)
    by_key = {completion.key: completion for completion in made}
    for request in requests:
        expected = generate_one(model, tokenizer, decoding, request)
        completion = by_key[request.key]
        assert completion.completion == tokenizer.decode(
            expected, clean_up_tokenization_spaces=False
        ), request.key
        assert completion.tokens == len(expected), request.key


@pytest.mark.parametrize("kind", ["qwen2", "gpt_bigcode"])
@pytest.mark.parametrize("stop_early", [True, False])
def test_padded_batches_with_rows_leaving_and_joining_change_no_token(
    kind: str, stop_early: bool, tokenizer: Any
) -> None:
    model = make_model(kind, len(tokenizer))
    decoding = decoding_of(tokenizer, stop_early=stop_early)
    requests = [
        request
        for request in requests_of(demo_benchmarks(), TASKS, tokenizer)
        if len(request.ids) < MAX_LENGTH
    ][::2]
    made = list(PaddedEngine(model, tokenizer, decoding, rows=7).complete(Pool(requests)))
    finishes = {completion.finish for completion in made}
    assert finishes >= ({"rule", "length"} if stop_early else {"length"})
    assert_same_tokens(model, tokenizer, decoding, requests, made)


def test_the_repetition_penalty_of_the_checkpoint_never_sees_a_pad(tokenizer: Any) -> None:
    model = make_model("qwen2", len(tokenizer))
    decoding = decoding_of(tokenizer, repetition_penalty=1.3, stop_early=False, max_length=200)
    requests = [r for r in requests_of(demo_benchmarks(), TASKS, tokenizer) if len(r.ids) < 190]
    made = list(PaddedEngine(model, tokenizer, decoding, rows=6).complete(Pool(requests)))
    assert_same_tokens(model, tokenizer, decoding, requests, made)


def test_a_sliding_window_model_is_answered_exactly_too(tokenizer: Any) -> None:
    import torch
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
    decoding = decoding_of(tokenizer, max_length=220)
    requests = [r for r in requests_of(demo_benchmarks(), TASKS, tokenizer) if len(r.ids) < 210]
    made = list(PaddedEngine(model, tokenizer, decoding, rows=5).complete(Pool(requests)))
    assert_same_tokens(model, tokenizer, decoding, requests, made)


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
    kind: str, stop_early: bool, task: str, tokenizer: Any, shared: Path
) -> None:
    model = make_model(kind, len(tokenizer))
    decoding = decoding_of(tokenizer, stop_early=stop_early, max_length=1200)
    requests = [
        request
        for request in requests_of(shared / "benchmarks", (task,), tokenizer)
        if len(request.ids) < 1200
    ]
    made = list(PaddedEngine(model, tokenizer, decoding, rows=32).complete(Pool(requests)))
    assert_same_tokens(model, tokenizer, decoding, requests, made)
