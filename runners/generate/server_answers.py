"""What a completions server says: pieces of an answer, and why it refuses one.

Apart from the engine because servers differ here: in how they stream, in what they count, and in
the words with which they say that a prompt does not fit.
"""

import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec

from runners.generate.engine import Finish

_CONTEXT = re.compile(
    r"context[ _]?(length|window|size)|max_model_len|maximum (input )?length|"
    r"(prompt|input|sequence)[^.]{0,40}too long",
    re.IGNORECASE,
)
_PROMPT_TOKENS = re.compile(
    r"(\d+) (?:tokens )?in (?:the|your) (?:prompt|messages?|input)|(\d+) (?:input|prompt) tokens|"
    r"input \((\d+) tokens\)",
    re.IGNORECASE,
)


class GarbledAnswerError(Exception):
    """The server answered with something that is no completion."""


class Piece(NamedTuple):
    """Text that came in, and, where the server says so, why it is the last and what it counts.

    ``tokens`` are those of the whole answer; ``prompt_tokens`` those of the prompt.
    """

    text: str
    finish: Finish | None
    tokens: int
    prompt_tokens: int


class _Choice(msgspec.Struct):
    text: str
    finish_reason: str | None = None


class _Usage(msgspec.Struct):
    completion_tokens: int = 0
    prompt_tokens: int = 0


class _Answer(msgspec.Struct):
    choices: list[_Choice]
    usage: _Usage | None = None


_decoder = msgspec.json.Decoder(_Answer)


def pieces(answer: Any) -> Iterator[Piece]:
    """The pieces of an HTTP answer, streamed or whole.

    Raises ``GarbledAnswerError`` for anything that is no completion.
    """
    streamed = "event-stream" in (answer.headers.get("Content-Type") or "")
    for line in answer if streamed else [b"data: " + answer.read()]:
        if not line.startswith(b"data:"):
            if line.strip() and not line.startswith((b":", b"event:", b"id:", b"retry:")):
                raise GarbledAnswerError(f"not an event: {line[:80]!r}")
            continue
        content = line[5:].strip()
        if content == b"[DONE]":
            return
        try:
            decoded = _decoder.decode(content)
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            raise GarbledAnswerError(f"not a completion ({error}): {content[:80]!r}") from None
        usage = decoded.usage or _Usage()
        for choice in decoded.choices or [_Choice("")]:
            finish = _finish(choice.finish_reason)
            yield Piece(choice.text, finish, usage.completion_tokens, usage.prompt_tokens)


def _finish(said: str | None) -> Finish | None:
    if said is None or said == "":
        return None
    if said in {"stop", "eos"}:
        return "eos"
    if said == "length":
        return "length"
    raise GarbledAnswerError(f"the server ended with {said!r}")


def is_about_length(refusal: str) -> bool:
    """Whether a server refuses because prompt and answer do not fit its context."""
    return _CONTEXT.search(refusal) is not None


def prompt_tokens(refusal: str) -> int | None:
    """The tokens that a server counted in the prompt, if it says so with its refusal.

    vLLM and SGLang do, each in words that change with their versions.
    """
    found = _PROMPT_TOKENS.search(refusal)
    return int(next(filter(None, found.groups()))) if found is not None else None
