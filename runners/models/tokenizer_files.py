"""The tokenizer files of a checkpoint, carried or made so that every later step can read them.

Qwen v1 ships only a ``qwen.tiktoken`` rank file, ChatGLM2 and Baichuan only a SentencePiece
``tokenizer.model``; both are made a ``tokenizer.json`` that gives the same ids, which is what the
data room and transformers read.
"""

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from runners.models.families import Family

if TYPE_CHECKING:
    from tokenizers import Tokenizer

TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "special_tokens_map.json",
    "added_tokens.json",
    "tokenizer.model",
    "vocab.json",
    "merges.txt",
    "chat_template.jinja",
)
# The published constants of Qwen v1's tokenizer: its splitting pattern and special tokens, which
# take the ids right after the ranks.
_QWEN_PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}|"
    r" ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN_SPECIAL = (
    "<|endoftext|>",
    "<|im_start|>",
    "<|im_end|>",
    *(f"<|extra_{i}|>" for i in range(205)),
)
# What ChatGLM2's own code adds behind the pieces of its file.
_CHATGLM_SPECIAL = ("[MASK]", "[gMASK]", "[sMASK]", "sop", "eop")


def copy_tokenizer(source: Path, target: Path) -> list[Path]:
    """Copy the tokenizer files that ``source`` has into ``target``; return the copies."""
    return [
        Path(shutil.copy(source / name, target))
        for name in TOKENIZER_FILES
        if (source / name).is_file()
    ]


def write_native_tokenizer(source: Path, target: Path, family: Family) -> None:
    """Put a native tokenizer for the converted checkpoint ``source`` into ``target``.

    A checkpoint without any tokenizer file gets none; whoever needs one says so.
    """
    ranks, pieces = source / "qwen.tiktoken", source / "tokenizer.model"
    if (source / "tokenizer.json").is_file() or not (ranks.is_file() or pieces.is_file()):
        copied = copy_tokenizer(source, target)
        _drop_remote_code(target, copied)
        return
    made = _from_ranks(ranks) if ranks.is_file() else _from_pieces(pieces, family)
    made.save(str(target / "tokenizer.json"))
    (target / "tokenizer_config.json").write_text(
        json.dumps(
            {
                "tokenizer_class": "PreTrainedTokenizerFast",
                "eos_token": family.eos,
                "pad_token": family.pad,
                "model_max_length": 8192,
                "clean_up_tokenization_spaces": False,
            },
            indent=2,
        )
        + "\n"
    )


def _from_ranks(path: Path) -> "Tokenizer":
    from transformers.convert_slow_tokenizer import TikTokenConverter

    converter = TikTokenConverter(
        vocab_file=str(path), pattern=_QWEN_PATTERN, extra_special_tokens=list(_QWEN_SPECIAL)
    )
    return converter.converted()


def _from_pieces(path: Path, family: Family) -> "Tokenizer":
    from runners.models.sentencepiece import tokenizer_from_sentencepiece

    special = _CHATGLM_SPECIAL if family.name == "chatglm2" else ()
    return tokenizer_from_sentencepiece(path, special)


def _drop_remote_code(target: Path, copied: list[Path]) -> None:
    """Take out of the copied tokenizer config what would make transformers run foreign code."""
    path = target / "tokenizer_config.json"
    if path not in copied:
        return
    config = json.loads(path.read_bytes())
    if config.pop("auto_map", None) is not None:
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        path.write_text(json.dumps(config, indent=2) + "\n")
