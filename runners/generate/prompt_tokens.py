"""Prompts into tokens, and what becomes of those that leave no room for an answer.

Shared by the engines that know the tokenizer: the limit counts prompt and completion together, and
a prompt that reaches it is told and counted, never cut.
"""

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
    return fitting, [_empty(request) for request in too_long]


def _empty(request: Request) -> Completion:
    return Completion(
        task=request.task,
        index=request.index,
        sample=request.sample,
        completion="",
        finish="too_long",
    )
