"""Tiny models with weights large enough that greedy decoding wanders instead of repeating."""

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import pytest

from runners.benchmarks.demo import demo_benchmarks
from runners.benchmarks.prompts import prompt
from runners.benchmarks.rows import load_questions
from runners.benchmarks.tasks import TASKS

START, END, END_OF_TURN = "<|im_start|>", "<|endoftext|>", "<|im_end|>"


def demo_texts() -> list[str]:
    """Text for a tokenizer: what the demo benchmark asks and answers."""
    texts = []
    for task in TASKS:
        for question in load_questions(demo_benchmarks(), task):
            texts += [prompt(question).text, *(str(value) for value in question.row.values())]
    return texts


def make_tokenizer(
    texts: Iterable[str] = (), vocabulary: int = 700, *, ascii_only: bool = False
) -> Any:
    """A byte-level BPE tokenizer with ChatML's special tokens, trained on the demo by default.

    ``ascii_only`` leaves out bytes that are no character by themselves.
    """
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=[] if ascii_only else pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END, START, END_OF_TURN],
        show_progress=False,
    )
    learned = list(texts) or demo_texts()
    if ascii_only:
        learned = [text.encode("ascii", "ignore").decode() for text in learned]
    tokenizer.train_from_iterator(learned, trainer)
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, eos_token=END_OF_TURN)


def make_model(kind: str, vocabulary: int, hidden: int = 64) -> Any:
    """A random float32 model of two layers: ``qwen2`` or ``gpt_bigcode``."""
    import torch
    from transformers import (
        GPTBigCodeConfig,
        GPTBigCodeForCausalLM,
        Qwen2Config,
        Qwen2ForCausalLM,
    )

    torch.manual_seed(7)
    if kind == "qwen2":
        return Qwen2ForCausalLM(
            Qwen2Config(
                vocab_size=vocabulary,
                hidden_size=hidden,
                intermediate_size=2 * hidden,
                num_hidden_layers=2,
                num_attention_heads=4,
                num_key_value_heads=2,
                initializer_range=0.4,
                bos_token_id=None,
                eos_token_id=2,
            )
        ).eval()
    return GPTBigCodeForCausalLM(
        GPTBigCodeConfig(
            vocab_size=vocabulary,
            n_embd=hidden,
            n_layer=2,
            n_head=4,
            n_positions=2048,
            initializer_range=0.4,
            bos_token_id=None,
            eos_token_id=2,
        )
    ).eval()


@pytest.fixture(scope="session", autouse=True)
def one_thread() -> None:
    """Models this small are slower on several threads, the more so where tests run side by side."""
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def tokenizer() -> Any:
    """See ``make_tokenizer``."""
    return make_tokenizer()


@pytest.fixture(scope="session")
def checkpoint(tmp_path_factory: pytest.TempPathFactory, tokenizer: Any) -> Callable[[str], Path]:
    """The folder of a saved tiny model of a kind."""
    saved: dict[str, Path] = {}

    def get(kind: str) -> Path:
        if kind not in saved:
            folder = tmp_path_factory.mktemp(kind)
            make_model(kind, len(tokenizer)).save_pretrained(folder)
            tokenizer.save_pretrained(folder)
            saved[kind] = folder
        return saved[kind]

    return get
