"""The contract between the generation job and whatever turns prompts into completions.

All tasks go into one pool, longest prompt first, so that an engine never waits for the last
question of a task, and the rows of a batch are of like length. Engines take from the pool when they
have room and yield completions as they finish, in any order.
"""

import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

Finish = Literal["eos", "rule", "length", "too_long", "given"]
"""Why a completion ended: the end token, the task's stop rule, the length limit, a prompt that left
no room at all, or unknown because it was made elsewhere."""


@dataclass(frozen=True)
class Request:
    """One completion to make: sample ``sample`` of a question.

    ``ids`` are the prompt's tokens where a tokenizer is at hand, else empty.
    """

    task: str
    index: int
    sample: int
    text: str
    ids: tuple[int, ...] = ()

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies the completion."""
        return (self.task, self.index, self.sample)


class Completion(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """A finished completion, as it is written to ``completions_*.jsonl``.

    ``completion`` is the raw text after the prompt, special tokens included; ``tokens`` counts what
    was generated; ``stop`` names the part of the stop rule that held; ``seconds`` is the time from
    the request's start to its end, other rows of its batch included.
    """

    task: str
    index: int
    sample: int = 0
    completion: str
    finish: Finish = "given"
    tokens: int = 0
    stop: str | None = None
    seconds: float = 0.0
    at: float = 0.0

    @property
    def key(self) -> tuple[str, int, int]:
        """What identifies the completion."""
        return (self.task, self.index, self.sample)


class Pool:
    """The requests that are still to be answered, handed out once each.

    ``claim(n)`` gives the position of the first of the next n requests; ranks share one claim, so
    that no two get the same. Once ``stopping()`` is true, the pool is empty.
    """

    def __init__(
        self,
        requests: Sequence[Request],
        claim: Callable[[int], int] | None = None,
        stopping: Callable[[], bool] = lambda: False,
    ) -> None:
        self._requests = sorted(requests, key=lambda r: (-(len(r.ids) or len(r.text)), r.key))
        self._claim = claim if claim is not None else _counter()
        self._stopping = stopping
        self._spent = False

    def __len__(self) -> int:
        return len(self._requests)

    @property
    def stopping(self) -> bool:
        """Whether somebody asked for a stop: what is unfinished is to be dropped."""
        return self._stopping()

    def take(self, count: int) -> list[Request]:
        """Up to ``count`` requests of like length; empty when there are no more."""
        if count <= 0 or self._spent or self._stopping():
            return []
        start = self._claim(count)
        # Between ranks a claim is a trip over the network: it is not made to hear the same again.
        self._spent = start + count >= len(self._requests)
        return self._requests[start : start + count]


def _counter() -> Callable[[int], int]:
    position, lock = 0, threading.Lock()

    def claim(count: int) -> int:
        nonlocal position
        with lock:
            position += count
            return position - count

    return claim


class Engine(Protocol):
    """Prompts in, completions out as they finish."""

    @property
    def eos(self) -> str:
        """The end token's text, as it may stand in completions."""
        ...

    def prepared(self, requests: list[Request]) -> list[Request]:
        """The requests as the engine wants them in the pool: with tokens, or as they are.

        What it leaves out it answers by itself. Called once, before ``complete``.
        """
        ...

    def complete(self, pool: Pool) -> Iterator[Completion]:
        """Answer what the pool hands out, until it is empty.

        Raises ``MftError`` when it cannot go on; what was yielded before is kept.
        """
        ...
