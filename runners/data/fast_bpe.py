"""A faster encoder for byte-level BPE tokenizers, with the same ids.

tiktoken runs the same algorithm several times as fast. It is built here from tokenizer.json itself:
the pattern that splits text, and the merges as ranks. Everything about a tokenizer that tiktoken
cannot express means no fast encoder, and a builder compares the ids on a sample of the real data
before it trusts one.
"""

import re
import unicodedata
from array import array
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from itertools import pairwise
from pathlib import Path
from typing import Any

import msgspec
import tiktoken

from runners.data.tokenizer import Encode, Ids, load_tokenizer

# What ByteLevel splits by when it splits by itself; tokenizer.json names it only by a flag.
_BYTE_LEVEL_PATTERN = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LONGEST = 100_000
"""Characters; tiktoken's regular expression engine may run out of stack on longer texts."""


_NEVER = "<|never in any text, and not allowed if it is|>"
"""tiktoken searches texts for its special tokens, and with none at all it searches slowly."""


class _Model(msgspec.Struct):
    type: str = ""
    vocab: dict[str, int] | list[Any] = {}
    merges: list[list[str] | str] = []
    dropout: float | None = None
    continuing_subword_prefix: str | None = None
    end_of_word_suffix: str | None = None
    byte_fallback: bool = False
    ignore_merges: bool = False


class _AddedToken(msgspec.Struct):
    id: int
    content: str
    special: bool = False


class _TokenizerJson(msgspec.Struct):
    model: _Model
    normalizer: dict[str, Any] | None = None
    pre_tokenizer: dict[str, Any] | None = None
    added_tokens: list[_AddedToken] = []


def lazy_encoder(path: Path) -> Encode:
    """The tokenizer's own encoder, loaded when the first text is delicate enough to need it.

    Loading takes a second and a hundred megabytes, in every worker, and most never need it.
    """

    @lru_cache(maxsize=1)
    def loaded() -> Encode:
        return load_tokenizer(path).encode

    def encode(text: str) -> Ids:
        return loaded()(text)

    return encode


@dataclass(frozen=True)
class FastRecipe:
    """What a fast encoder is made of: small enough to be sent to workers, so only one reads it."""

    pattern: str
    ranks: dict[bytes, int]
    plain_added: tuple[str, ...]
    normalizes: bool


def fast_recipe(path: Path) -> FastRecipe | None:
    """The recipe for a tokenizer.json, or None where tiktoken cannot express it."""
    try:
        described = msgspec.json.decode(path.read_bytes(), type=_TokenizerJson)
    except msgspec.DecodeError:
        return None
    pattern = _split_pattern(described.pre_tokenizer)
    ranks = _ranks(described.model)
    if pattern is None or ranks is None or not _normalizes_to_nfc_at_most(described.normalizer):
        return None
    added = tuple(token.content for token in described.added_tokens if not token.special)
    return FastRecipe(pattern, ranks, added, described.normalizer is not None)


def fast_encoder(recipe: FastRecipe, slow: Encode) -> Encode | None:
    """A tiktoken encoder; None when tiktoken refuses the recipe.

    Texts that are rare and delicate (not in normal form C, with an added token in them, very long)
    go to ``slow``, the tokenizer itself.
    """
    try:
        core = tiktoken.Encoding(
            "from-tokenizer-json",
            pat_str=recipe.pattern,
            mergeable_ranks=recipe.ranks,
            special_tokens={_NEVER: max(recipe.ranks.values()) + 1},
        )
    except (ValueError, KeyError):
        return None
    normalizes = recipe.normalizes
    plain_added = [re.escape(text) for text in recipe.plain_added]
    has_added = re.compile("|".join(plain_added)).search if plain_added else None
    # The ids as bytes: made into Python's numbers they would cost half as much again.
    encode_to_buffer = core._core_bpe.encode_to_tiktoken_buffer
    allowed: set[str] = set()

    def encode(text: str) -> Ids:
        if (
            len(text) > _LONGEST
            or (has_added is not None and has_added(text))
            or (normalizes and not text.isascii() and not unicodedata.is_normalized("NFC", text))
        ):
            return slow(text)
        ids = array("i")
        ids.frombytes(bytes(encode_to_buffer(text, allowed)))
        return ids

    return encode


def disagreement(slow: Encode, fast: Encode, texts: Sequence[str]) -> str | None:
    """The first text on which the fast encoder's ids are not the tokenizer's; None if none is."""
    return next((text for text in texts if fast(text) != slow(text)), None)


def _normalizes_to_nfc_at_most(normalizer: dict[str, Any] | None) -> bool:
    if normalizer is None or normalizer.get("type") == "NFC":
        return True
    parts = normalizer.get("normalizers", [None])
    return normalizer.get("type") == "Sequence" and all(
        part is not None and part.get("type") == "NFC" for part in parts
    )


def _split_pattern(pre_tokenizer: dict[str, Any] | None) -> str | None:
    if pre_tokenizer is None:
        return None
    parts = [pre_tokenizer]
    if pre_tokenizer.get("type") == "Sequence":
        parts = pre_tokenizer.get("pretokenizers", [])
    if not parts or parts[-1].get("type") != "ByteLevel" or parts[-1].get("add_prefix_space", True):
        return None
    splits_itself = parts[-1].get("use_regex", True)
    if len(parts) == 1:
        return _BYTE_LEVEL_PATTERN if splits_itself else None
    split = parts[0]
    if (
        len(parts) != 2
        or splits_itself
        or split.get("type") != "Split"
        or split.get("behavior") != "Isolated"
        or split.get("invert", False)
    ):
        return None
    pattern = split.get("pattern", {}).get("Regex")
    return pattern if isinstance(pattern, str) else None


@lru_cache(maxsize=1)
def _byte_of_letter() -> dict[str, int]:
    """The byte each letter of a byte-level vocabulary stands for.

    Printable Latin-1 bytes stand for themselves, the others for letters from U+0100 on.
    """
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(0x100) if byte not in printable]
    letters = {chr(byte): byte for byte in printable}
    return letters | {chr(0x100 + i): byte for i, byte in enumerate(others)}


def _ranks(model: _Model) -> dict[bytes, int] | None:
    """Token bytes to id, if ids rank merges in their order, as tiktoken takes them to.

    None when the model has anything tiktoken has not, or when some token is not made by exactly
    one merge, for then a rank by token would not be the rank of the merge.
    """
    if (
        model.type not in ("BPE", "")
        or not isinstance(model.vocab, dict)
        or model.dropout
        or model.continuing_subword_prefix
        or model.end_of_word_suffix
        or model.byte_fallback
    ):
        return None
    letters = _byte_of_letter()
    try:
        singles = {letter: model.vocab[letter] for letter in letters}
        merged = [
            model.vocab["".join(m) if isinstance(m, list) else m.replace(" ", "", 1)]
            for m in model.merges
        ]
    except KeyError:
        return None
    rising = all(a < b for a, b in pairwise(merged))
    if not rising or (merged and merged[0] < max(singles.values())):
        return None
    made = {*singles.values(), *merged}
    try:
        return {
            bytes([letters[letter] for letter in token]): number
            for token, number in model.vocab.items()
            if number in made
        }
    except KeyError:
        return None
