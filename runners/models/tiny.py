"""A tiny Qwen2-architecture model and its tokenizer, made on the spot from a data set's own text.

    python -m runners.models.tiny OUTPUT TASK_FOLDER...

It exists so that the whole way can be walked on any machine without a download: everything about
the checkpoint is real (files, architecture, special tokens), only its size is small and its weights
are random.
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path

import torch
from tokenizers import Regex, Tokenizer, decoders, models, normalizers, pre_tokenizers, trainers
from transformers import PreTrainedTokenizerFast, Qwen2Config, Qwen2ForCausalLM

END, START, END_OF_TURN = "<|endoftext|>", "<|im_start|>", "<|im_end|>"

QWEN2_WORDS = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
"""How Qwen2 splits text before BPE. transformers takes it for any tokenizer of a Qwen2 checkpoint,
whatever its tokenizer.json says, so the file must say the same."""


def make_tiny_model(
    output: Path,
    texts: Iterator[str],
    *,
    vocabulary: int = 1024,
    hidden: int = 128,
    layers: int = 3,
    context: int = 2048,
    seed: int = 0,
) -> None:
    """Write a random Qwen2 checkpoint and a byte-level BPE tokenizer trained on ``texts``.

    ``vocabulary`` counts tokens, special ones included; ``hidden`` must divide by 32, the size of
    an attention head. Deterministic: the same texts and seed give the same bytes.
    """
    tokenizer = _train_tokenizer(texts, vocabulary)
    ids = tokenizer.get_vocab()
    config = Qwen2Config(
        vocab_size=len(tokenizer),
        hidden_size=hidden,
        intermediate_size=4 * hidden,
        num_hidden_layers=layers,
        num_attention_heads=hidden // 32,
        num_key_value_heads=hidden // 32,
        max_position_embeddings=context,
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=ids[END_OF_TURN],
        pad_token_id=ids[END],
    )
    torch.manual_seed(seed)
    model = Qwen2ForCausalLM(config)
    model.save_pretrained(output)
    tokenizer.save_pretrained(output)


def _train_tokenizer(texts: Iterator[str], vocabulary: int) -> PreTrainedTokenizerFast:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.normalizer = normalizers.NFC()
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [
            pre_tokenizers.Split(Regex(QWEN2_WORDS), "isolated"),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.ByteLevel()
    trainer = trainers.BpeTrainer(
        vocab_size=vocabulary,
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        special_tokens=[END, START, END_OF_TURN],
        show_progress=False,
    )
    tokenizer.train_from_iterator(texts, trainer)
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, eos_token=END_OF_TURN, pad_token=END, unk_token=None
    )


def texts_of(folders: Sequence[Path]) -> Iterator[str]:
    """The content of every round of every chat record in the task folders, in a fixed order."""
    for folder in folders:
        for path in sorted(folder.glob("*.jsonl")):
            for line in path.read_text(encoding="utf-8").splitlines():
                for chat_round in json.loads(line)["chat_rounds"]:
                    yield chat_round["content"]


def main() -> None:
    """Make one from the command line."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("output", type=Path)
    parser.add_argument("data", type=Path, nargs="+")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    make_tiny_model(arguments.output, texts_of(arguments.data), seed=arguments.seed)


if __name__ == "__main__":
    main()
