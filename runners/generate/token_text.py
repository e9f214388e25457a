"""Tokens into text as they come, so that stop rules see each character once.

Decoding the whole row after every token is quadratic. For byte-level BPE a token is a fixed string
of bytes, so a row's text grows by a table look-up; other tokenizers are decoded over a short window
of tokens, because their text may depend on the neighbour.
"""

import codecs
from collections.abc import Sequence
from typing import Any, Protocol

import msgspec

_WINDOW = 6
_REPLACEMENT = "\ufffd"


class TextStream(Protocol):
    """The text of one row, token by token."""

    def push(self, token: int) -> tuple[str, str]:
        """Add a token. Returns (text that is now final, text that more bytes may still change)."""
        ...


class TokenText:
    """Makes text streams for a tokenizer; built once for all rows."""

    def __init__(self, tokenizer: Any) -> None:
        self._tokenizer = tokenizer
        self._bytes = _byte_table(tokenizer)

    def stream(self, prompt: Sequence[int] = ()) -> TextStream:
        """A stream for a new row, which starts after a prompt that ends in a whole character."""
        if self._bytes is not None:
            return _ByteStream(self._bytes)
        return _WindowStream(self._tokenizer, prompt)

    def completion(self, prompt: tuple[int, ...], generated: list[int]) -> str:
        """The whole text after the prompt, special tokens kept.

        Prompt and completion are decoded together, because a first token may lose a blank when it
        is decoded alone.
        """
        head, whole = self._decode(prompt), self._decode((*prompt, *generated))
        if whole.startswith(head):
            return whole[len(head) :]
        return self._decode(generated)

    def _decode(self, ids: tuple[int, ...] | list[int]) -> str:
        return decode(self._tokenizer, ids)


def decode(tokenizer: Any, ids: tuple[int, ...] | list[int]) -> str:
    """Text of tokens, special tokens kept and blanks left as they are."""
    return str(
        tokenizer.decode(list(ids), skip_special_tokens=False, clean_up_tokenization_spaces=False)
    )


class _ByteStream:
    __slots__ = ("_decoder", "_table")

    def __init__(self, table: list[bytes]) -> None:
        self._table = table
        self._decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")

    def push(self, token: int) -> tuple[str, str]:
        # A padded vocabulary has more logits than tokens; those decode to nothing.
        data = self._table[token] if token < len(self._table) else b""
        final = self._decoder.decode(data)
        return final, _REPLACEMENT if self._decoder.getstate()[0] else ""


class _WindowStream:
    __slots__ = ("_ids", "_read", "_start", "_tokenizer")

    def __init__(self, tokenizer: Any, prompt: Sequence[int]) -> None:
        self._tokenizer = tokenizer
        # The prompt's end is the first window: decoded alone, a first token loses its blank.
        self._ids = list(prompt[-_WINDOW:])
        self._start, self._read = 0, len(self._ids)

    def push(self, token: int) -> tuple[str, str]:
        self._ids.append(token)
        before = decode(self._tokenizer, self._ids[self._start : self._read])
        after = decode(self._tokenizer, self._ids[self._start :])
        new = after[len(before) :] if after.startswith(before) else ""
        if not new or new.endswith(_REPLACEMENT):
            return "", new
        self._start = max(self._start, len(self._ids) - _WINDOW)
        self._read = len(self._ids)
        return new, ""


def _byte_table(tokenizer: Any) -> list[bytes] | None:
    """The bytes of every token of a byte-level BPE tokenizer; None for any other."""
    backend = getattr(tokenizer, "backend_tokenizer", None)
    if backend is None:
        return None
    described = msgspec.json.decode(backend.to_str())
    decoder = described.get("decoder") or {}
    if decoder.get("type") != "ByteLevel":
        return None
    added = {int(token["id"]): str(token["content"]) for token in described["added_tokens"]}
    characters = _byte_characters()
    table: list[bytes] = []
    for number in range(len(tokenizer)):
        if number in added:
            table.append(added[number].encode())
            continue
        text = tokenizer.convert_ids_to_tokens(number) or ""
        table.append(b"".join(characters.get(c, c.encode()) for c in text))
    return table


def _byte_characters() -> dict[str, bytes]:
    """The printable character that byte-level BPE writes for each byte (Radford et al., GPT-2).

    Printable Latin-1 stands for itself; the other bytes take the code points from 256 on.
    """
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return {chr(byte if byte in printable else next(others)): bytes([byte]) for byte in range(256)}
