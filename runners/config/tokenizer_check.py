"""What a checkpoint's tokenizer says about a training run before it begins.

Reads tokenizer.json as JSON: the checks before a launch run where no tokenizer library is loaded.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from runners.errors import MissingInputError, UsageError
from runners.models.families import Family

MARKERS = ("<|im_start|>", "<|im_end|>")
"""What ChatML is written with."""

LARGEST_PADDING = 1024
"""Rows of an embedding that may have no token: tables are padded to multiples of 64 to 1,024."""

_CONVERTED = {
    "qwen": "qwen.tiktoken",
    "chatglm2": "tokenizer.model",
    "baichuan": "tokenizer.model",
}
"""The tokenizer files of first-generation checkpoints, which are converted with the weights."""


@dataclass(frozen=True)
class Vocabulary:
    """``size`` is one more than the largest id, added tokens included; ``lacks`` lists the ChatML
    markers that are no token."""

    size: int
    lacks: tuple[str, ...]


def require_tokenizer(folder: Path, family: Family, model: Mapping[str, Any]) -> None:
    """Check that the folder's tokenizer is there and belongs to the embedding in ``model``.

    Raises ``MissingInputError`` when there is none that can be used, ``UsageError`` when it cannot
    be read or is of another size.
    """
    vocabulary = read_vocabulary(folder)
    if vocabulary is None:
        _require_convertible(folder, family)
        return
    rows = model.get("padded_vocab_size", model.get("vocab_size"))
    if not isinstance(rows, int):
        return
    unused = rows - vocabulary.size
    if not 0 <= unused < LARGEST_PADDING:
        raise UsageError(
            f"the tokenizer has {vocabulary.size} tokens, the model's embedding {rows} rows",
            where=str(folder / "tokenizer.json"),
            fix="Use the tokenizer that belongs to the checkpoint.",
        )


def _require_convertible(folder: Path, family: Family) -> None:
    if (file := _CONVERTED.get(family.name)) is not None:
        if (folder / file).is_file():
            return
        raise MissingInputError(
            f"the model folder has neither a tokenizer.json nor a {file}",
            where=str(folder),
            fix="Fetch it from where the checkpoint came from.",
        )
    raise MissingInputError(
        "the model folder has no tokenizer.json",
        where=str(folder),
        fix="transformers writes it with AutoTokenizer.from_pretrained(…).save_pretrained(folder).",
    )


def gains_markers(folder: Path) -> bool:
    """Whether training adds ChatML markers to the folder's tokenizer, and so trains embeddings.

    False where there is no tokenizer to ask. Raises ``UsageError`` when it cannot be read.
    """
    path = folder / "tokenizer.json"
    if path.is_file():
        return _lacks_markers(path, path.stat().st_mtime_ns)
    # Of what is converted, the tokenizers of tiktoken have the markers.
    return (folder / "tokenizer.model").is_file()


@lru_cache(maxsize=16)
def _lacks_markers(path: Path, _changed: int) -> bool:
    vocabulary = read_vocabulary(path.parent)
    return vocabulary is not None and bool(vocabulary.lacks)


def read_vocabulary(folder: Path) -> Vocabulary | None:
    """The vocabulary of the folder's tokenizer.json; None when it has none.

    Raises ``UsageError`` when the file cannot be read.
    """
    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    try:
        content = json.loads(path.read_bytes())
        table = content["model"]["vocab"]
        added = {token["content"]: token["id"] for token in content.get("added_tokens", [])}
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(
            f"this is no tokenizer that can be read ({type(error).__name__})",
            where=str(path),
            fix="Fetch the tokenizer's files again.",
        ) from error
    # Unigram tokenizers list [piece, score]; the others map a piece to its id.
    if not isinstance(table, dict):
        table = {piece: i for i, (piece, _) in enumerate(table)}
    size = max([*table.values(), *added.values()], default=-1) + 1
    return Vocabulary(size, tuple(m for m in MARKERS if m not in table and m not in added))
