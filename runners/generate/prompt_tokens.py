"""Prompts into tokens, and what becomes of those that leave no room for an answer.

Shared by the engines that know the tokenizer: the limit counts prompt and completion together, and
a prompt that reaches it is told and counted, never cut.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from runners.generate.engine import Completion, Request
from runners.lifecycle.events import EventWriter


def tokenized(tokenizer: Any, requests: Sequence[Request], *, chat: bool) -> list[Request]:
    """Requests with their tokens.

    Special tokens in the text count as such. The reference lets the tokenizer add its own in front
    (Llama's ``<s>``); the chat template of training has none.
    """
    if not requests:
        return []
    encoded = tokenizer([r.text for r in requests], add_special_tokens=not chat)["input_ids"]
    return [replace(r, ids=tuple(ids)) for r, ids in zip(requests, encoded, strict=True)]


def with_room(
    requests: Sequence[Request], limit: int, events: EventWriter
) -> tuple[list[Request], list[Completion]]:
    """Requests shorter than ``limit`` tokens, and the empty completions of the others."""
    too_long = [request for request in requests if len(request.ids) >= limit]
    if too_long:
        tasks = sorted({request.task for request in too_long})
        events.notice(
            "warning",
            f"{len(too_long)} prompts have {limit} tokens or more, which is the limit: "
            f"their completions are empty ({', '.join(tasks)})",
        )
    fitting = [request for request in requests if len(request.ids) < limit]
    return fitting, [empty(request) for request in too_long]


def empty(request: Request) -> Completion:
    """The completion of a prompt that leaves no room for one."""
    return Completion(
        task=request.task,
        index=request.index,
        sample=request.sample,
        completion="",
        finish="too_long",
    )


class ServerCounts:
    """Tokens of a served model where no tokenizer is at hand, and whom to tell of limits."""

    def __init__(self, events: EventWriter) -> None:
        self._events = events

    def requests(self, requests: list[Request]) -> tuple[list[Request], list[Completion]]:
        """Requests with their tokens, and the empty completions of those that leave no room."""
        return requests, []

    def tokens(self, pieces: Sequence[str]) -> int:
        """How many tokens came in pieces: at least one in each, and nobody knows more here."""
        return len(pieces)

    def tell(self, text: str) -> None:
        """Say something that the person should know."""
        self._events.notice("warning", text)


class TokenizerCounts(ServerCounts):
    """The same with the served checkpoint's own tokenizer."""

    def __init__(self, events: EventWriter, tokenizer: Any, *, limit: int, chat: bool) -> None:
        super().__init__(events)
        self._tokenizer, self._limit, self._chat = tokenizer, limit, chat
        self._lock = threading.Lock()
        self._single: frozenset[str] | None = None

    def requests(self, requests: list[Request]) -> tuple[list[Request], list[Completion]]:
        """See ``ServerCounts``."""
        known = tokenized(self._tokenizer, requests, chat=self._chat)
        return with_room(known, self._limit, self._events)

    def tokens(self, pieces: Sequence[str]) -> int:
        """A piece that is a token's text is one token; any other is split as the tokenizer would.

        A model need not split text as its tokenizer does, so the whole is not split anew.
        """
        with self._lock:
            if self._single is None:
                ids = [[number] for number in range(len(self._tokenizer))]
                self._single = frozenset(self._tokenizer.batch_decode(ids))
            several = [piece for piece in pieces if piece not in self._single]
            split = (
                self._tokenizer(several, add_special_tokens=False)["input_ids"] if several else ()
            )
            return len(pieces) - len(several) + sum(map(len, split))
